"""Running out of memory, told apart from other failures."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trainables.recipe import Recipe

GPU, HOST = "GPU", "host"
"""Whose memory ran out."""

CGROUP, CGROUP_1, MACHINE = "/sys/fs/cgroup", "/sys/fs/cgroup/memory", Path("/proc/vmstat")


def oom_kills() -> int:
    """Return how many processes the kernel has ended for want of memory.

    In a control group these are the group's; elsewhere the machine's. It is 0 where the system does not say.
    """
    for path in (*_of_the_group(), MACHINE):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = [line.split() for line in path.read_text().splitlines()]
            return int(next(words[1] for words in lines if words[0] == "oom_kill"))
    return 0


def _of_the_group() -> list[Path]:
    """Return the files in which this process's control group, of version 2 or 1, counts such ends."""
    with contextlib.suppress(OSError):
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        found = [f"{CGROUP}/{path}/memory.events" for _, names, path in groups if not names]
        found += [f"{CGROUP_1}/{path}/memory.oom_control" for _, names, path in groups if names == "memory"]
        return [Path(each) for each in found]
    return []


class RanOut(RuntimeError):
    """An error that says whose memory ran out: GPU, HOST, or None for neither."""

    short_of: str | None = None


def advice(short_of: str, recipe: Recipe, gpus_per_worker: float) -> str:
    """Return what would make a cell fit that ran out of memory."""
    ways = []
    if short_of == GPU and 0 < gpus_per_worker < 1:
        ways.append("--gpus-per-worker 1")
    part = (recipe.micro_batch or recipe.batch_size) // 2
    if part and recipe.batch_size % part == 0:
        ways.append(f"another sweep with --set micro_batch={part}, which takes each batch in parts")
    ways.append(f"a smaller width (now {recipe.width}) or batch_size (now {recipe.batch_size})")
    ways.append("a GPU with more memory" if short_of == GPU else "a machine with more memory")
    return f"what would make it fit: {', '.join(ways[:-1])}, or {ways[-1]}"


def short_of(error: BaseException) -> str | None:
    """Return whose memory an error says ran out, GPU or HOST, or None for another error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RanOut):
            return seen.short_of
        kind = type(seen)
        if isinstance(seen, MemoryError):
            return HOST
        if kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch"):
            return GPU
        found = short_by(str(seen))
        if found is not None:
            return found
        seen = seen.__cause__
    return None


def short_by(text: str) -> str | None:
    """Return whose memory ran out by the words that torch, Ray and the system use."""
    if "out of memory" in text and "CUDA" in text:
        return GPU
    return HOST if any(words in text for words in HOST_WORDS) else None


HOST_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "Cannot allocate memory",
    "due to the node running low on memory",
)

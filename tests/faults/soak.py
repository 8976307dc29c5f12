"""`python -m tests.faults.soak --inline 300 --ray 40`: sweeps in a row, after which nothing may have grown.

Sweeps without Ray run in this process, which counts its threads and file descriptors (its memory is only
shown), and every tenth one in a process of its own. Those on Ray are processes. All have a home, a folder for
temporary files and, where root may mount one, a /dev/shm of their own, so that nothing else is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.processes import SETTINGS, adopt_orphans, descendants, mount_small_disk, orphans

SMALL = ("--holdouts", "3", "--seeds", "1", "--methods", "classification")
TINY = ("--set", "epochs=1", "train_fraction=0.1")
SHARED_MEMORY = Path("/dev/shm")
WARM = 3
"""Sweeps before the first count: what is imported and opened once is then there."""


@dataclass(frozen=True)
class Counts:
    """What may not grow from sweep to sweep."""

    processes: int
    threads: int
    descriptors: int
    shared_memory: int
    temporary_files: int
    home_files: int
    files_of_a_sweep: int
    memory_mib: int


def main() -> int:
    """Run the sweeps and return 1 if anything has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--inline", type=int, default=300)
    parser.add_argument("--ray", type=int, default=40)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    adopt_orphans()
    if not mount_small_disk(SHARED_MEMORY, 4096):
        print("/dev/shm is shared with the rest of this machine: what others do there is counted, too.")
    for name, place in (("HOME", "h"), ("TMPDIR", "t"), ("RAY_TMPDIR", "t"), ("MPLCONFIGDIR", "m")):
        (folder / place).mkdir(exist_ok=True)
        os.environ[name] = str(folder / place)
    tempfile.tempdir = None
    grown = [*_soak("inline", options.inline, folder), *_soak("ray", options.ray, folder)]
    for sentence in grown:
        print(f"GREW: {sentence}")
    shutil.rmtree(folder, ignore_errors=True)
    print("Nothing has grown." if not grown else f"{len(grown)} things have grown.")
    return int(bool(grown))


def _soak(executor: str, times: int, folder: Path) -> Iterator[str]:
    """Run so many sweeps with an executor; print the counts three times and yield what has grown."""
    if not times:
        return
    first = None
    for number in range(1, times + 1):
        name = f"{executor}-{number}"
        code = _sweep(executor, name, folder, own_process=executor == "ray" or number % 10 == 0)
        if code > 128:
            raise SystemExit(code)
        if code:
            yield f"{name} ended with {code}"
        if number in (min(WARM, times), times // 2, times):
            counts = _count(folder, name)
            print(f"{executor:6} after {number:4d} sweeps: {_line(counts)}", flush=True)
            first = first or counts
    assert first is not None
    for field, before in asdict(first).items():
        after = getattr(counts, field)
        if field != "memory_mib" and after > before:  # whose allocators keep what they once had
            yield f"{executor}: {field.replace('_', ' ')} from {before} to {after}"


def _sweep(executor: str, name: str, folder: Path, *, own_process: bool) -> int:
    words = [*SMALL, *TINY, "--name", name, "--storage", str(folder / "storage"), "--executor", executor]
    if own_process:
        command = [sys.executable, "-m", "orchestrator.sweep", *words]
        done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
        if done.returncode:
            print(done.stdout[-500:], done.stderr[-2000:])
        return done.returncode
    from orchestrator.sweep import main as sweep

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return sweep(words)


def _count(folder: Path, name: str) -> Counts:
    for left in orphans(10):
        print(f"orphaned: {left}")
    status = Path("/proc/self/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    return Counts(
        processes=len(descendants(os.getpid())),
        threads=threading.active_count(),
        descriptors=len(os.listdir("/proc/self/fd")),
        shared_memory=len(os.listdir(SHARED_MEMORY)),
        temporary_files=_files(folder / "t"),
        home_files=_files(folder / "h"),
        files_of_a_sweep=_files(folder / "storage" / name),
        memory_mib=int(memory) // 1024,
    )


def _files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


def _line(counts: Counts) -> str:
    return ", ".join(f"{value} {field.replace('_', ' ')}" for field, value in asdict(counts).items())


if __name__ == "__main__":
    if not SETTINGS.items() <= os.environ.items():
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.faults.soak", *sys.argv[1:]],
            {**os.environ, **SETTINGS},
        )
    sys.exit(main())

"""What an example of a fuzz test may use: seconds, and memory of its process."""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

SECONDS = 20
"""For an example, on a loaded machine; most take milliseconds, and a failing one is tried many times."""
MEMORY = 3 * 2**30
"""Bytes of address space that an example may add, threads' stacks and allocators' reserves included."""


class Hangs(AssertionError):
    """An example did not end in time."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Let what waits for ever, or takes ever more memory, fail here: with Hangs or MemoryError."""

    def late(*_: object) -> None:
        raise Hangs(f"not done after {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # where no signal is heard, inside a library
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)

"""SIGINT, SIGTERM and SIGHUP, which all mean: end what you do, and say how it goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

SAME_SECONDS = 0.5
"""Signals that come within this time are one: a terminal and its shell, or Slurm, send several."""


class Signalled(KeyboardInterrupt):
    """A signal that ends the command, raised in its main thread."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code after a signal: 128 and its number."""
    return 128 + number_of(error)


def number_of(error: KeyboardInterrupt) -> int:
    """Return a signal's number; Python's own KeyboardInterrupt is SIGINT's."""
    return error.number if isinstance(error, Signalled) else int(signal.SIGINT)


def name_of(number: int) -> str:
    """Return a signal's name, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def handling(handler: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of each signal that comes, in the main thread.

    Signals that are ignored, by nohup or by a shell's &, stay so. In another thread nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda got, _: handler(got)) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


class Once:
    """Takes signals: calls a function at the first, and another at one that comes later."""

    def __init__(self, first: Callable[[int], None], second: Callable[[int], None]) -> None:
        self._first, self._second = first, second
        self._since: float | None = None

    def __call__(self, number: int) -> None:
        """Take a signal."""
        leave_dead_terminal()
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._first(number)
        elif now - self._since > SAME_SECONDS:
            self._second(number)


def raising() -> Once:
    """Return a handler that raises Signalled, and at a second signal ends the process where it is."""

    def end(number: int) -> None:
        say(f"Stopped by {name_of(number)}.")
        os._exit(128 + number)

    return Once(_raise, end)


def _raise(number: int) -> None:
    raise Signalled(number)


def say(sentence: str) -> None:
    """Print a sentence to the standard error stream, if anybody is there to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(sentence, file=sys.stderr, flush=True)


def leave_dead_terminal() -> None:
    """Write to nowhere in place of a terminal that is gone, which would raise errors for ever."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = stream.fileno()
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)

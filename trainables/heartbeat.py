"""Signs that work advances, for whoever watches this process; if nobody does, they cost next to nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Listener = Callable[[str, int, int], None]
"""Called with what is being done, such as "training", the epoch or 0, and how many images were trained on;
from any thread, up to thousands of times a second."""

_listener: Listener | None = None


def beat(phase: str, epoch: int = 0, images: int = 0) -> None:
    """Give a sign that a piece of work is done or about to begin, and say what it belongs to.

    A step of training says its epoch, from 1 on, and on how many images it has trained.
    """
    if _listener is not None:
        _listener(phase, epoch, images)


def rest(seconds: float, phase: str) -> None:
    """Wait, and give a sign each second that this is meant."""
    over = time.monotonic() + seconds
    while (left := over - time.monotonic()) > 0:
        beat(phase)
        time.sleep(min(left, 1.0))


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a listener hear this process's beats, in place of the one before."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before

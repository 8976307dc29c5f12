"""What a command is at before its work begins, said if it takes longer than a moment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from orchestrator.cli.signals import say

MOMENT = 1.0
"""Seconds."""


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what the block is at, such as "Starting Ray", if it does not end within a moment."""
    timer = threading.Timer(MOMENT, say, [f"{what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

"""A process's own account of its beats (trainables/heartbeat.py), from which its signs of life are made."""

from __future__ import annotations

import time
from collections import deque

from orchestrator.execution.memory import oom_kills
from orchestrator.execution.watchdog import Process, Sign

SPEED_SIGNS = 10
"""Over how many signs the speed is a mean, so that an evaluation between two epochs hardly shows."""


class Beats:
    """Counts beats, and the images that they say were trained on."""

    def __init__(self, process: Process) -> None:
        self.count = 0
        self.begin(process)

    def begin(self, process: Process) -> None:
        """Let the beats, from now on, be those of another attempt."""
        self._process = process
        self._phase, self._epoch, self._images = "starting", 0, 0
        self._signs: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=SPEED_SIGNS)

    def beat(self, phase: str, epoch: int = 0, images: int = 0) -> None:
        """Take a beat; of two at the same moment one may be lost, which does not matter."""
        self.count += 1
        self._phase = phase
        self._epoch = epoch or self._epoch
        self._images += images

    def sign(self) -> Sign:
        """Return the newest sign of life."""
        now, images = time.monotonic(), self._images
        since, before = self._signs[0]
        self._signs.append((now, images))
        speed = (images - before) / max(now - since, 1e-9)
        return Sign(self._process, self.count, self._phase, oom_kills(), self._epoch, speed)

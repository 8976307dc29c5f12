"""Faults that strike a sweep on Ray from outside, at moments that are seen in its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.faults.processes import command_of, descendants
from tests.faults.schedules import (
    COMMAND,
    GCS,
    GROUP,
    KILL,
    RAYLET,
    SIGNALS,
    STOP_AND_GO,
    STOP_AND_KILL,
    TRAIN_WORKER,
    TRIAL,
    WORKER,
    RayFault,
)
from tests.faults.strikes import kind_of

SUSPENDED = 1.0
"""Seconds after which a suspended process is killed."""


class Watch:
    """Looks at a sweep's folder, and strikes when it is time."""

    def __init__(self, faults: Iterable[RayFault], sweep: Path, log: Path) -> None:
        self._left = list(faults)
        self._sweep = sweep
        self._log = log
        self._later: list[tuple[float, int, int]] = []
        """When, to which process, and which signal is sent."""

    def __call__(self, command: int) -> None:
        """Strike what is due below a command's process."""
        now = time.monotonic()
        for each in [each for each in self._later if each[0] <= now]:
            self._later.remove(each)
            _send(each[1], each[2])
        for fault in list(self._left):
            if self._count(fault.kind) >= fault.count and (found := find(fault.target, command)):
                self._left.remove(fault)
                self._strike(fault, found)

    def _count(self, kind: str) -> int:
        files = (f"{folder}/{name}" for folder, _, names in os.walk(self._sweep) for name in names)
        return sum(kind_of(path) == kind for path in files if not path.endswith(".part"))

    def _strike(self, fault: RayFault, process: int) -> None:
        with self._log.open("a") as log:
            log.write(f"{fault}\n")
        if fault.what == KILL:
            _send(process, signal.SIGKILL)
        elif fault.what in SIGNALS:
            _send(process, SIGNALS[fault.what])
        else:
            _send(process, signal.SIGSTOP)
            pause, then = (
                (fault.seconds, signal.SIGCONT) if fault.what == STOP_AND_GO else (SUSPENDED, signal.SIGKILL)
            )
            assert fault.what in (STOP_AND_GO, STOP_AND_KILL)
            self._later.append((time.monotonic() + pause, process, then))


def find(target: str, command: int) -> int:
    """Return the process to strike, negative for a group; 0 if there is none now."""
    if target in (COMMAND, GROUP):
        return command if target == COMMAND else -command
    below = descendants(command)
    looks: dict[str, Callable[[str], bool]] = {
        WORKER: lambda line: line == command_of(command),
        TRIAL: lambda line: line.startswith("ray::") and "ImplicitFunc" in line,
        TRAIN_WORKER: lambda line: line.startswith("ray::") and "TrainWorker" in line,
        RAYLET: lambda line: line.split(" ")[0].endswith("/raylet"),
        GCS: lambda line: line.split(" ")[0].endswith("/gcs_server"),
    }
    return next((process for process in below if looks[target](command_of(process))), 0)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process < 0:
            os.killpg(-process, number)
        else:
            os.kill(process, number)

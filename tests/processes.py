"""Commands as real processes, found again with all that they start by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.sweeps import PLAIN, ROOT

MARK = "HOLDOUT_TEST_MARK"
SECONDS = 120.0
"""How long anything that comes is waited for, on a loaded machine."""


class Command:
    """A command that runs, and whatever it starts."""

    def __init__(self, *words: object, module: str = "orchestrator.sweep", **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **PLAIN, **environment, MARK: self.mark},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()

    def processes(self) -> dict[int, list[str]]:
        """The living processes with the mark, and their command lines."""
        return marked(self.mark)

    def named(self, name: str) -> int:
        """The one process whose program has this name."""
        (found,) = [pid for pid, words in self.processes().items() if Path(words[0]).name == name]
        return found

    def driver(self) -> int:
        """The child that does the work."""
        (found,) = children(self.pid)
        return found

    def send(self, number: int) -> None:
        """Send the command a signal."""
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, output and errors."""
        out, err = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, out, err

    def wait_for(self, what: Callable[[], Any]) -> None:
        """Wait until something is so; fail if the command ends first."""
        await_(lambda: what() or self._process.poll() is not None)
        assert self._process.poll() is None, self._process.communicate()


def await_(what: Callable[[], Any]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def marked(mark: str) -> dict[int, list[str]]:
    """The living processes whose environment has a mark."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
    return found


def children(pid: int) -> Sequence[int]:
    """The processes whose parent a process is."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found

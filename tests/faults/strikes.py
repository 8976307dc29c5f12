"""Faults as they strike: within a process of a sweep, at the seams between it and what surrounds it.

Files are reached through a file system of pyarrow, MLflow through its client and the time through time.time:
these are wrapped here, and count what passes. Everything behind them is real.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from tests.faults.schedules import (
    AFTER,
    BEFORE,
    CLOCK,
    DURING,
    FAIL,
    FULL_DISK,
    GROUP,
    KILL,
    LOCKED,
    POWER_CUT,
    SIGNALS,
    STALL,
    STOPS,
    TRACKING,
    UNANSWERED,
    WORKER,
    Fault,
)
from trainables import heartbeat

KINDS = (
    (r"/sweep\.json$", "sweep"),
    (r"/identity$", "identity"),
    (r"/cell\.json$", "cell"),
    (r"/attempts/[^/]*\.json$", "attempt"),
    (r"/checkpoint/[^/]*\.pt$", "checkpoint"),
    (r"/curves\.parquet$", "curves"),
    (r"/scores\.parquet$", "scores"),
    (r"/window\.parquet$", "window"),
    (r"/weights\.safetensors$", "weights"),
    (r"/result\.json$", "result"),
    (r"/report/[^/]*$", "report"),
)
ROOM = 4096
"""Bytes that are left on a disk that is full."""
FILLER = "filler"


def kind_of(path: str) -> str | None:
    """Return the kind of a ledger's file, written aside or in its place; None for any other file."""
    whole = re.sub(r"(\.[0-9]+)?\.[0-9a-f]{32}\.part$", "", path)
    return next((kind for pattern, kind in KINDS if re.search(pattern, whole)), None)


class Strikes:
    """The faults of one process: what has been counted so far, and what is still to strike."""

    def __init__(self, faults: Iterable[Fault], storage: Path, log: Path) -> None:
        self._left = list(faults)
        self._storage = storage
        self._log = log
        self._command = os.getpid()
        """The command's first process, in which the faults are armed."""
        self._counts: Counter[str] = Counter()
        self._failing: dict[str, tuple[int, int]] = {}
        """By kind, how many more calls fail, and with which errno."""
        self._offset = 0.0
        self._lock = threading.RLock()

    def arm(self) -> None:
        """Put the wrappers in place."""
        _FileSystem.strikes = self
        pafs.LocalFileSystem = _FileSystem
        real_time = time.time
        time.time = lambda: real_time() + self._offset
        self._wrap_link()
        self._wrap_beats()
        self._wrap_client()

    def count(self, kind: str) -> int:
        """Count an event and return its number."""
        with self._lock:
            self._counts[kind] += 1
            return self._counts[kind]

    def reach(self, kind: str, nth: int, phase: str, path: str = "") -> None:
        """Let strike what is due at a moment; raise OSError or ConnectionError for a call that fails."""
        with self._lock:
            here = [f for f in self._left if (f.moment.kind, f.moment.phase) == (kind, phase)]
            due = [fault for fault in here if nth >= fault.moment.nth]
            self._left = [fault for fault in self._left if fault not in due]
            times, code = self._failing.get(kind, (0, 0))
            fails = times > 0 and phase == BEFORE
            if fails:
                self._failing[kind] = times - 1, code
        for fault in due:
            self._strike(fault, path)
        if fails:
            raise OSError(code, os.strerror(code))

    def _strike(self, fault: Fault, path: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{fault}\n")
        if fault.what == KILL:
            self._send(fault.target, signal.SIGKILL)
        elif fault.what == POWER_CUT:
            if os.path.exists(path):
                os.truncate(path, os.path.getsize(path) // 2)
            self._send(GROUP, signal.SIGKILL)
        elif fault.what in STOPS:
            self._send(GROUP, signal.SIGSTOP)
        elif fault.what in SIGNALS:
            self._send(fault.target, SIGNALS[fault.what])
        elif fault.what == STALL:
            time.sleep(fault.amount)
        elif fault.what == CLOCK:
            self._offset += fault.amount
        elif fault.what == LOCKED:
            threading.Thread(target=_hold_database, args=(self._storage, fault.amount), daemon=True).start()
        elif fault.what == FULL_DISK:
            fill(self._storage)
        elif fault.what == UNANSWERED:
            raise ConnectionError("the answer was lost")
        elif fault.what == FAIL:
            self._failing[fault.moment.kind] = int(fault.amount) - 1, fault.code
            raise OSError(fault.code, os.strerror(fault.code))

    def _send(self, target: str, number: int) -> None:
        """Send a signal to this process, to the command's first, or to the group that it leads."""
        with contextlib.suppress(ProcessLookupError):
            if target == GROUP:
                os.killpg(self._command, number)
            else:
                os.kill(os.getpid() if target == WORKER else self._command, number)

    def _wrap_link(self) -> None:
        link = os.link

        @functools.wraps(link)
        def counted(source: str, target: str, **options: Any) -> None:
            link(source, target, **options)
            kind = kind_of(str(target))
            if kind is not None:
                self.reach(kind, self._counts[kind], AFTER, str(target))

        os.link = counted

    def _wrap_beats(self) -> None:
        """Count signs of life, whoever listens to them."""
        real = heartbeat.beat

        @functools.wraps(real)
        def beat(*said: Any, **more: Any) -> None:
            nth = self.count("beat")
            for part in (BEFORE, DURING, AFTER):
                self.reach("beat", nth, part)
            real(*said, **more)

        for module in list(sys.modules.values()):
            if vars(module).get("beat") is real:
                module.beat = beat  # type: ignore[attr-defined]

    def _wrap_client(self) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            return
        for name in TRACKING:
            setattr(MlflowClient, name, self._counted(name, getattr(MlflowClient, name)))

    def _counted(self, name: str, call: Any) -> Any:
        @functools.wraps(call)
        def counted(*args: Any, **options: Any) -> Any:
            nth = self.count(name)
            self.reach(name, nth, BEFORE)
            self.reach(name, nth, DURING)
            answer = call(*args, **options)
            self.reach(name, nth, AFTER)
            return answer

        return counted


def fill(storage: Path) -> None:
    """Leave no room on the disk of a folder, which must be one that was made for this."""
    if not os.path.ismount(storage):
        return
    with open(storage / FILLER, "wb") as file, contextlib.suppress(OSError):
        status = os.statvfs(storage)
        os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize - ROOM, 1))


def _hold_database(storage: Path, seconds: float) -> None:
    """Keep MLflow's database to this connection, as another program may."""
    connection = sqlite3.connect(storage / "mlflow.db", timeout=30, isolation_level=None)
    with contextlib.closing(connection), contextlib.suppress(sqlite3.OperationalError):
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


class _FileSystem(pafs.LocalFileSystem):
    """This machine's file system, counted."""

    strikes: Strikes

    def open_output_stream(self, path: str, *args: Any, **options: Any) -> Any:
        kind = kind_of(path)
        if kind is None:
            return super().open_output_stream(path, *args, **options)
        nth = self.strikes.count(kind)
        self.strikes.reach(kind, nth, BEFORE)
        return _Stream(super().open_output_stream(path, *args, **options), self.strikes, kind, nth, path)

    def move(self, source: str, target: str) -> None:
        super().move(source, target)
        kind = kind_of(target)
        if kind is not None:
            self.strikes.reach(kind, self.strikes._counts[kind], AFTER, target)


class _Stream:
    """A file that is being written, which may be left half written."""

    def __init__(self, stream: Any, strikes: Strikes, kind: str, nth: int, path: str) -> None:
        self._stream, self._strikes, self._kind, self._nth, self._path = stream, strikes, kind, nth, path

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        self._stream.write(data[: len(data) // 2])
        self._stream.flush()
        self._strikes.reach(self._kind, self._nth, DURING, self._path)
        self._stream.write(data[len(data) // 2 :])

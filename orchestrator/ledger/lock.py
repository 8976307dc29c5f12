"""One driver per sweep: a lock that a dead process does not keep, and that two cannot hold.

In a folder the operating system keeps it. In an object store it is what `lock.json` says, which every
process writes on condition that it is as that process has last seen it. Its owner renews it, and one who
watches it for the length of a lease without a change takes it over. Who holds it asks before each write
whether that is so.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.objects import Objects, Version, knows_conditions
from orchestrator.ledger.owner import LEASE_SECONDS
from orchestrator.ledger.storage import reason
from trainables.mistake import Mistake

LONGEST_LEASE = 3600.0
BEATS, MARGIN = 6, 1 / 6
"""How often the lock is renewed within a lease, and the part of it in which the owner does not trust it."""
LOOKS = 60
"""How many times a watched lock is read within a lease."""
PATIENCE_SECONDS = 300.0
"""How long an owner waits for a store that does not answer before it gives the lock up."""
TURN_SECONDS = 0.3
"""How long a folder's lock is tried for: whoever asks who holds it touches it for a moment."""
SETTLE_SECONDS = 1.0
STOP = getattr(signal, "SIGUSR2", signal.SIGINT)
"""The signal that interrupts the main thread: a process that a script started with & ignores SIGINT."""
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while a machine sleeps."""

Record = dict[str, Any]


class LockLost(KeyboardInterrupt):
    """This process no longer holds the sweep, and must not write; it ends like one that is interrupted."""


@dataclass(frozen=True)
class Hold:
    """A sweep that this process holds."""

    ledger: Ledger
    """The ledger whose every write is preceded by the check."""
    check: Callable[[], None]
    """Raises LockLost if another process may hold the sweep; to be called before writing anything of it."""


@contextlib.contextmanager
def hold(ledger: Ledger, lease: float = LEASE_SECONDS) -> Iterator[Hold]:
    """Hold the sweep's lock; raise Mistake if another driver is at work on it, or takes it over meanwhile.

    In a folder a dead process's lock is free at once. In an object store one that nobody renews is taken over
    after `lease` seconds. An owner that was only suspended, or cut off, finds out before it writes anything,
    except for a request that it had begun, and is interrupted.
    """
    path = ledger.lock_file
    if path is not None:
        with _in_folder(ledger, path) as held:
            yield held
        return
    try:
        objects = ledger.objects
        shared = objects is not None and knows_conditions(objects, ledger.lock_probe(uuid.uuid4().hex))
    except OSError as error:
        raise ledger.unwritable(error) from None
    with _leased(ledger, objects, lease) if objects is not None and shared else _unshared(ledger) as held:
        yield held


# Folders


@contextlib.contextmanager
def _in_folder(ledger: Ledger, path: str) -> Iterator[Hold]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = FileLock(path, fallback_to_soft=False)
        lock.acquire(timeout=TURN_SECONDS, poll_interval=0.02)
    except Timeout:
        raise Mistake(_busy(ledger, _who(ledger.read_lock()))) from None
    except (OSError, NotImplementedError) as error:
        raise _no_locks(ledger, error) from None
    try:
        identity = _identity(path)

        def check() -> None:
            if _identity(path) != identity:
                raise LockLost(f"{path}, the lock of the sweep {ledger.name!r}, was removed or replaced")

        _note(path, _record())
        yield Hold(ledger.guarded(check), check)
    except LockLost as lost:
        raise Mistake(f"{lost}: give the command again.") from None
    finally:
        if _identity(path) == identity:
            _note(path, None)
        lock.release()


def _note(path: str, record: Record | None) -> None:
    """Write who holds the lock into its file; a full disk keeps nobody from holding it."""
    with contextlib.suppress(OSError), open(path, "w") as file:
        file.write("" if record is None else json.dumps(record))


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another of its name, None if it is not there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _no_locks(ledger: Ledger, error: Exception) -> Mistake:
    """Return the Mistake for a folder that cannot be written, or whose file system does not lock files."""
    locks = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
    if isinstance(error, NotImplementedError) or (isinstance(error, OSError) and error.errno in locks):
        return Mistake(
            f"The file system of {ledger.storage} does not lock files ({reason(error)}), so two drivers "
            "could run one sweep: mount it with locks (NFS: version 4, or a running lockd), or give another "
            "--storage."
        )
    assert isinstance(error, OSError)
    return ledger.unwritable(error)


# Object stores


@contextlib.contextmanager
def _leased(ledger: Ledger, objects: Objects, lease: float) -> Iterator[Hold]:
    try:
        held = _Lease.acquire(ledger, objects, lease)
    except OSError as error:
        raise ledger.unwritable(error) from None
    held.start()
    try:
        with _interruptible(held):
            yield Hold(ledger.guarded(held.check), held.check)
    except KeyboardInterrupt:
        if held.lost is None:
            raise
    finally:
        lost = held.lost
        held.end()
    if lost is not None:
        raise Mistake(lost)


class _Lease(threading.Thread):
    """A lock that is renewed until it is ended or lost; losing it wakes the main thread."""

    def __init__(
        self, ledger: Ledger, objects: Objects, lease: float, record: Record, version: Version
    ) -> None:
        super().__init__(daemon=True)
        self.lost: str | None = None
        """Why the lock is another's now, as a sentence; None while it is not."""
        self.wakes = False
        """Whether the main thread can be woken."""
        self._ledger, self._objects, self._lease = ledger, objects, lease
        self._record, self._version = record, version
        self._renewed = _now()
        self._turn = threading.Lock()
        self._over = threading.Event()

    @staticmethod
    def acquire(ledger: Ledger, objects: Objects, lease: float) -> _Lease:
        """Return the lock, if it belongs to nobody, to a dead process, or to one that does not renew it.

        Raises Mistake if its owner is at work, and OSError if the store does not answer.
        """
        version = _await_free(ledger, objects, lease)
        record = _record(lease=lease, beat=0)
        began = _now()
        data = json.dumps(record).encode()
        written = objects.put(ledger.lock_path, data, version)
        if written is None:
            found, written = _read(ledger, objects)
            if written is None or found.get("token") != record["token"]:
                raise Mistake(_busy(ledger, _who(found)))
        held = _Lease(ledger, objects, lease, record, written)
        held._renewed = began
        return held

    def check(self) -> None:
        """Raise LockLost if the lock is another's; while that is in doubt, ask the store.

        The lock that is found as it was left has not been another's in between.
        """
        while self.lost is None and _now() - self._renewed > self._lease * (1 - MARGIN):
            with contextlib.suppress(OSError):
                self._renew()
                continue
            self._give_up_after_long()
            self._over.wait(self._lease / LOOKS)
        if self.lost is not None:
            raise LockLost(self.lost)

    def run(self) -> None:
        """Renew the lock a few times within each lease."""
        while self.lost is None and not self._over.wait(self._lease / BEATS):
            try:
                self._renew()
            except OSError:  # the store is away: the next beat tries again
                self._give_up_after_long()
        if self.lost is not None and self.wakes and not self._over.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, STOP)

    def _renew(self) -> None:
        """Write the lock if it is as this process has left it, or find that it is lost."""
        with self._turn:
            began = _now()
            self._record = {**self._record, "renewed": time.time(), "beat": self._record["beat"] + 1}
            if self._write(self._record):
                self._renewed = began

    def _write(self, record: Record) -> bool:
        """Write the lock and return True, or find that it is lost."""
        while self.lost is None:
            version = self._objects.put(self._ledger.lock_path, json.dumps(record).encode(), self._version)
            if version is not None:
                self._version = version
                return True
            found, there = _read(self._ledger, self._objects)
            if there is None or found.get("token") != self._record["token"]:
                self.lost = self._taken(found)
            else:  # it was written by an earlier call, whose answer was lost
                self._version = there
        return False

    def _taken(self, found: Record) -> str:
        whom = _who(found) if found.get("token") else "somebody who removed or released its lock"
        return (
            f"The sweep {self._ledger.name!r} was taken over by {whom} while nothing was heard from this "
            "process: leave it to that one, or stop that one and give this command again."
        )

    def _give_up_after_long(self) -> None:
        if _now() - self._renewed > max(self._lease, PATIENCE_SECONDS):
            self.lost = (
                f"The storage {self._ledger.storage} has not answered for {_now() - self._renewed:.0f} s, so "
                f"another driver may have taken the sweep {self._ledger.name!r} over: give the command again "
                "once it answers."
            )

    def end(self) -> None:
        """Release the lock if it is not lost, once no renewal can follow."""
        if self._over.is_set():
            return
        self._over.set()
        self.join()
        lost = self.lost
        with self._turn, contextlib.suppress(OSError):  # the store is away: nobody renews the lock
            self._write(_released())
        self.lost = lost  # what happened after the last write does not matter


@contextlib.contextmanager
def _interruptible(held: _Lease) -> Iterator[None]:
    """Make STOP raise LockLost in the main thread; elsewhere nothing can be done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise LockLost(held.lost or "")

    before = signal.signal(STOP, stop)
    held.wakes = True
    try:
        try:
            yield
        finally:
            held.wakes = False
            held.end()  # after which no signal comes
    finally:
        signal.signal(STOP, before or signal.SIG_DFL)


def _await_free(ledger: Ledger, objects: Objects, lease: float) -> Version | None:
    """Return the version of a lock that can be had, None if there is none; raise Mistake if it is renewed.

    It is watched by this process's own clock, for the longer of both leases.
    """
    found, seen = _read(ledger, objects)
    if not found.get("token") or _dead_here(found):
        return seen
    stated = found.get("lease")
    lease = max(lease, min(float(stated), LONGEST_LEASE)) if isinstance(stated, int | float) else lease
    print(
        f"Waiting {lease:g} s to see whether {_who(found)}, which holds the sweep {ledger.name!r}, "
        "is still at work.",
        file=sys.stderr,
        flush=True,
    )
    until = _now() + lease
    while _now() < until:
        time.sleep(lease / LOOKS)
        now, version = _read(ledger, objects)
        if not now.get("token"):
            return version
        if version != seen:
            raise Mistake(_busy(ledger, _who(now)))
    return seen


def _read(ledger: Ledger, objects: Objects) -> tuple[Record, Version | None]:
    """Return what the lock says, empty if that cannot be read, and its version, None if there is none."""
    try:
        data, version = objects.read(ledger.lock_path)
    except FileNotFoundError:
        return {}, None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found, version
    return {}, version


# Stores that two drivers cannot share


@contextlib.contextmanager
def _unshared(ledger: Ledger) -> Iterator[Hold]:
    """Hold a sweep in a store without conditions: a lock that is not released is never taken over."""
    record = _record()
    try:
        found = ledger.read_lock()
        if found.get("token") and not _dead_here(found):
            raise Mistake(
                f"The sweep {ledger.name!r} is held by {_who(found)}, and {ledger.storage} has no "
                "conditional writes, without which it cannot be taken over safely: if that process has "
                f"ended, delete {ledger.lock_uri} and give the command again."
            )
        ledger.write_lock(record)
        time.sleep(SETTLE_SECONDS)  # two drivers that found it free together: the last to write keeps it
        found = ledger.read_lock()
    except OSError as error:
        raise ledger.unwritable(error) from None
    if found.get("token") != record["token"]:
        raise Mistake(_busy(ledger, _who(found)))
    try:
        yield Hold(ledger, lambda: None)
    finally:
        with contextlib.suppress(OSError):
            if ledger.read_lock().get("token") == record["token"]:
                ledger.write_lock(_released())


# Owners


def _now() -> float:
    return time.clock_gettime(CLOCK)


def _record(**more: object) -> Record:
    now = time.time()
    about = {"token": uuid.uuid4().hex, "since": now, "renewed": now, "machine": _machine()}
    return {**about, "host": socket.gethostname(), "pid": os.getpid(), **more}


def _released() -> Record:
    return {"token": "", "renewed": time.time(), "host": "", "pid": 0}


def _dead_here(owner: Record) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    if owner.get("machine") != _machine() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


@functools.cache
def _machine() -> str:
    """Return what identifies this machine, or container, within which a process id means one process.

    A hostname would not: it can be given twice.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _who(owner: Record) -> str:
    since = owner.get("since")
    when = ""
    if isinstance(since, int | float) and not isinstance(since, bool):
        with contextlib.suppress(ValueError, OverflowError, OSError):
            when = f", since {time.strftime('%d %B %H:%M', time.localtime(since))}"
    if not owner.get("host"):
        return "another process"
    return f"process {owner.get('pid', '?')} on {owner['host']}{when}"


def _busy(ledger: Ledger, who: str) -> str:
    return (
        f"The sweep {ledger.name!r} is being run by {who}: wait for it, or stop it first; "
        "a sweep of your own needs another --name."
    )

"""One driver per sweep: a lock that a dead process does not keep."""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.ledger.ledger import Ledger
from trainables.mistake import Mistake

BEAT_SECONDS = 10.0
"""How often the owner of a lock on an object store renews it."""
WATCH_SECONDS = 15.0
"""How long a lock is watched; it is taken over if nobody renews it meanwhile."""
LOOKS = 15
"""How many times a watched lock is read."""
SETTLE_SECONDS = 1.0
STOP = getattr(signal, "SIGUSR2", signal.SIGINT)
"""The signal that interrupts the main thread: a process that a script started with & ignores SIGINT."""


@contextlib.contextmanager
def hold(ledger: Ledger) -> Iterator[None]:
    """Hold the sweep's lock; raise Mistake if another driver is at work on it, or takes it over meanwhile.

    On a file system the operating system releases the lock with its process, so a dead one's is free at
    once. On an object store the owner renews a lock file, and one that is not renewed is taken over; an
    owner that was only suspended, or cut off, finds that out at its next beat and is interrupted.
    """
    path = ledger.lock_file
    with _local(ledger, path) if path is not None else _remote(ledger):
        yield


@contextlib.contextmanager
def _local(ledger: Ledger, path: str) -> Iterator[None]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise Mistake(_busy(ledger, "another process")) from None
    except OSError as error:
        raise ledger.unwritable(error) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _remote(ledger: Ledger) -> Iterator[None]:
    token = uuid.uuid4().hex
    try:
        _await_free(ledger)
        _renew(ledger, token)
        time.sleep(SETTLE_SECONDS)  # two drivers that found it free together: the last to write keeps it
        owner = ledger.read_lock()
    except OSError as error:
        raise ledger.unwritable(error) from None
    if owner.get("token") != token:
        raise Mistake(_busy(ledger, _who(owner)))
    beat = _Beat(ledger, token)
    beat.start()
    try:
        with _interruptible():
            yield
    except KeyboardInterrupt:
        if beat.successor is None:
            raise
    finally:
        beat.end()
        _release(ledger, token)
    if beat.successor is not None:
        raise Mistake(
            f"The sweep {ledger.name!r} was taken over by {_who(beat.successor)} while nothing was heard "
            "from this process: leave it to that one, or stop that one and give this command again."
        )


class _Beat(threading.Thread):
    """Renews the lock until it is ended; interrupts the main thread if another driver has taken it."""

    def __init__(self, ledger: Ledger, token: str) -> None:
        super().__init__(daemon=True)
        self.successor: dict[str, Any] | None = None
        self._ledger = ledger
        self._token = token
        self._over = threading.Event()

    def run(self) -> None:
        """Check who owns the lock before each renewal."""
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the store is away: the next beat tries again
                owner = self._ledger.read_lock()
                if owner.get("token", "") not in ("", self._token):
                    self.successor = owner
                    _thread.interrupt_main(STOP)
                    return
                _renew(self._ledger, self._token)

    def end(self) -> None:
        """Return once no renewal can follow."""
        self._over.set()
        self.join()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make STOP raise KeyboardInterrupt in the main thread; elsewhere nothing can be done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(STOP, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(STOP, before or signal.SIG_DFL)


def _await_free(ledger: Ledger) -> None:
    """Return once the lock belongs to nobody or to a dead process; raise Mistake if its owner is at work.

    An owner that is at work renews the lock, by whatever clock. Raises OSError if the storage does not
    answer.
    """
    found = ledger.read_lock()
    if not found.get("token") or _dead_here(found):
        return
    print(
        f"Waiting {WATCH_SECONDS:g} s to see whether {_who(found)}, which holds the sweep {ledger.name!r}, "
        "is still at work.",
        file=sys.stderr,
        flush=True,
    )
    for _ in range(LOOKS):
        time.sleep(WATCH_SECONDS / LOOKS)
        now = ledger.read_lock()
        if not now.get("token"):
            return
        if (now["token"], now.get("renewed")) != (found["token"], found.get("renewed")):
            raise Mistake(_busy(ledger, _who(now)))


def _renew(ledger: Ledger, token: str) -> None:
    values = {"token": token, "renewed": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    ledger.write_lock({**values, "machine": _machine()})


def _release(ledger: Ledger, token: str) -> None:
    """Clear the lock if it is this owner's."""
    with contextlib.suppress(OSError):  # the store is away: nobody renews the lock, and the next one sees it
        if ledger.read_lock().get("token") == token:
            ledger.write_lock({"token": "", "renewed": 0.0, "host": "", "pid": 0})


def _dead_here(owner: dict[str, Any]) -> bool:
    """Return whether the owner was a process of this machine that is gone."""
    if owner.get("machine") != _machine():
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
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


def _who(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _busy(ledger: Ledger, who: str) -> str:
    return (
        f"The sweep {ledger.name!r} is being run by {who}: wait for it, or stop it first; "
        "a sweep of your own needs another --name."
    )

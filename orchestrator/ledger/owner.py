"""Who holds a sweep's lock, found out without taking it or writing anything."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.ledger import Ledger

try:
    import fcntl
except ImportError:  # Windows, where only what a lock file says is known
    fcntl = None  # type: ignore[assignment]

LEASE_SECONDS = 60.0
"""How long a lock on an object store is watched before it is taken over."""
MOST_SECONDS = 1e11
"""Later times are none."""


@dataclass(frozen=True)
class Owner:
    """The driver that holds a sweep's lock, as far as it is known."""

    host: str | None
    process: int | None
    since: float | None
    """When it took the lock, in Unix seconds."""
    heard: float | None
    """When it renewed the lock last, on an object store, by its own clock."""
    lease: float | None = None
    """On an object store, for how many seconds a lock that is not renewed is its owner's."""

    @property
    def silent(self) -> bool:
        """Whether nothing was heard of it for twice its lease, which allows for clocks that differ."""
        return self.heard is not None and time.time() - self.heard > 2 * (self.lease or LEASE_SECONDS)

    @property
    def words(self) -> str:
        """The owner in words."""
        if self.process is None:
            return "a process that did not say which"
        return f"process {self.process} on {self.host or 'an unknown host'}"


def owner_of(ledger: Ledger) -> Owner | None:
    """Return the driver that holds the lock, or None if nobody does.

    On an object store it is whoever the lock file names: whether that process still lives shows in how long
    ago it was heard. Raise OSError if the storage does not answer.
    """
    said = ledger.read_lock()
    path = ledger.lock_file
    if path is not None:
        return _named(said, path) if _is_locked(path) else None
    return _named(said, None) if said.get("token") else None


def _named(said: Mapping[str, Any], path: str | None) -> Owner:
    host, process, since = said.get("host"), said.get("pid"), said.get("since")
    if since is None and path is not None:
        with contextlib.suppress(OSError):
            since = os.stat(path).st_mtime  # the file is opened anew for each lock
    return Owner(
        host if isinstance(host, str) and host else None,
        process if isinstance(process, int) and process else None,
        _number(since),
        _number(said.get("renewed")) if path is None else None,
        _number(said.get("lease")) if path is None else None,
    )


def _number(value: object) -> float | None:
    """Return a number that is one; a lock may say anything."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < MOST_SECONDS else None  # type: ignore[arg-type]


def _is_locked(path: str) -> bool:
    """Return whether a process, on this machine or another, has locked a file.

    A shared lock of our own, for an instant, would be refused. A driver waits for longer than that instant.
    """
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

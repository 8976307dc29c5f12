"""The temporary folder of a sweep on this machine: Ray's sessions and Tune's bookkeeping.

It goes with the sweep. Only a driver that was killed leaves it behind, for the next sweep to find: its owner
held a lock in it, and the lock of a dead process is free.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.cli.supervisor import tell

PREFIX = "sweep-"
OWNER = "owner.lock"
LONGEST = 20
"""Characters of the folder around it, at most: Ray puts sockets below it, whose paths the system limits."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """Give a temporary folder, and remove it afterwards, and those that dead sweeps of this person left."""
    around = _around()
    clear_dead(around)
    # Locked before it has the name by which others find it.
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=around))
    lock = FileLock(hidden / OWNER)
    lock.acquire()
    folder = around / hidden.name.removeprefix(".")
    hidden.rename(folder)
    tell(temporary=str(folder))
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def clear_dead(around: Path) -> None:
    """Remove the folders whose owners are gone."""
    for folder in around.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            owner = folder / OWNER
            if folder.is_symlink() or owner.stat().st_uid != os.getuid():
                continue
            with FileLock(owner, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def _around() -> Path:
    usual = tempfile.gettempdir()
    short = usual if len(usual) <= LONGEST or not os.path.isdir("/tmp") else "/tmp"
    return Path(os.environ.get("RAY_TMPDIR") or short)

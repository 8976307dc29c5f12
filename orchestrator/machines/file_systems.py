"""The file systems of this machine: how much room they have, and whether other machines may share them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.storage import absolute_path

NETWORK_KINDS = (
    *("nfs", "cifs", "smb", "lustre", "ceph", "gpfs", "beegfs", "glusterfs", "afs", "9p", "virtiofs", "fuse"),
)
"""How kinds of file systems that several machines may share begin in /proc/self/mounts."""


@dataclass(frozen=True)
class Disk:
    """Room for one purpose, in bytes."""

    folder: str
    purpose: str
    free: int
    total: int


def sweep_disks() -> Iterator[Disk]:
    """Yield the disks that a sweep writes to on every machine, each one once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    seen = set()
    for folder, purpose in ((tempfile.gettempdir(), "Ray's files"), (str(cache), "prepared data")):
        existing = _existing_folder(folder)
        device = os.stat(existing).st_dev
        if device not in seen:
            seen.add(device)
            usage = shutil.disk_usage(existing)
            yield Disk(folder, purpose, usage.free, usage.free + usage.used)


def on_network(folder: str) -> bool:
    """Return whether a folder's file system is of a kind that several machines may share."""
    mount_point, kind = "", ""
    real = os.path.realpath(_existing_folder(folder))
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, candidate, candidate_kind = line.split()[:3]
            inside = real == candidate or real.startswith(candidate.rstrip("/") + "/")
            if inside and len(candidate) >= len(mount_point):
                mount_point, kind = candidate, candidate_kind
    return kind.startswith(NETWORK_KINDS)


def _existing_folder(path: str) -> str:
    """Return a folder, or the nearest one above it that exists."""
    folder = absolute_path(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder

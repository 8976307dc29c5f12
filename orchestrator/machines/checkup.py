"""The doctor's round: this machine, the storage, the data, the cluster, the tracking server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.ledger.storage import absolute_path, open_storage
from orchestrator.machines.findings import HOW_TO_INSTALL, Finding, machine_findings, pinned_versions, wrong
from orchestrator.machines.probe import DataSize, MachineReport, ProbeRequest, examine
from orchestrator.machines.storage_probe import StorageProbe
from orchestrator.machines.tracking_server import check_tracking
from trainables.mistake import one_line


@dataclass(frozen=True)
class Places:
    """What the doctor is to look at beside this machine; None or "" for what it is not."""

    storage: str
    address: str | None = None
    data: str | None = None
    tracking_uri: str | None = None


def check_up(places: Places) -> Iterator[Finding]:
    """Yield findings as they are made. Raise Mistake for a storage that is not valid.

    Nothing is changed: what is written into the storage, and a folder that is made for it, is removed again.
    """
    open_storage(places.storage)  # raises Mistake
    probe = StorageProbe.of(places.storage)
    with _removed_if_new(probe.storage):
        error = probe.begin()
        try:
            data = absolute_path(places.data) if places.data else None
            request = ProbeRequest(None if error else probe, data)
            here = examine(request)
            pins = pinned_versions()
            yield from machine_findings("This machine", here, pins)
            yield _storage_finding(probe.storage, error)
            if data and here.data:
                yield _data_finding(data, here.data)
            if places.address:
                yield from _cluster_findings(places.address, request, here, pins)
        finally:
            probe.end()
    if places.tracking_uri:
        yield check_tracking(places.tracking_uri)


@contextlib.contextmanager
def _removed_if_new(storage: str) -> Iterator[None]:
    """Remove a storage folder of this machine afterwards if it did not exist before and is empty."""
    existed = "://" in storage or os.path.exists(storage)
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                os.rmdir(storage)


def _storage_finding(storage: str, error: str) -> Finding:
    if error:
        return wrong(f"The storage {storage} cannot be written from this machine ({error}).")
    return Finding(f"The storage {storage} can be written.")


def _data_finding(path: str, size: DataSize) -> Finding:
    if size.error:
        return wrong(f"The data cannot be read on this machine ({size.error}).")
    return Finding(f"The data {path}: {size.files} files, {size.bytes / 1e9:.2f} GB.")


def _cluster_findings(
    address: str, request: ProbeRequest, here: MachineReport, pins: dict[str, str]
) -> Iterator[Finding]:
    try:
        # Here, so that the rest can be looked at where Ray is not installed.
        from orchestrator.machines.cluster_checkup import check_cluster
    except ImportError as error:
        yield wrong(f"The cluster at {address} cannot be looked at ({one_line(error)}): {HOW_TO_INSTALL}.")
        return
    yield from check_cluster(address, request, here, pins)

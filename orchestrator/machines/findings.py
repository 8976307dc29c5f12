"""What a machine's own words mean: findings, with what to do where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.machines.probe import PROJECT, Condition, Disk, Gpus

GIB = 1024**3
LEAST_FREE = 5 * GIB
LEAST_SHARE = 0.05
"""Ray stops giving work to a machine whose disk is fuller than 95%."""

LEAST_OPEN_FILES = 4096
INSTALL = "install as README.md says, or run ray up cluster.yaml again"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    text: str
    well: bool = True


def wrong(text: str) -> Finding:
    """A finding that something is not as it should be."""
    return Finding(text, well=False)


def pinned_versions() -> dict[str, str]:
    """The versions of constraints.txt; empty where the project is installed without it."""
    path = PROJECT / "constraints.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def machine(name: str, condition: Condition, pins: dict[str, str]) -> list[Finding]:
    """What is wrong with one machine, or one finding that sums it up where nothing is."""
    found = [
        *_versions(name, condition, pins),
        *(finding for disk in condition.disks for finding in _room(name, disk)),
        *_gpus(name, condition.gpus),
    ]
    if condition.token_error:
        found.append(wrong(f"{name}: {condition.token_error}."))
    return found or [Finding(f"{name}: {_summary(condition)}.")]


def _summary(condition: Condition) -> str:
    packages = ", ".join(f"{package} {condition.versions[package]}" for package in ("ray", "torch"))
    gpus = condition.gpus
    cards = f"{len(gpus.names)} x {gpus.names[0]} (driver {gpus.driver})" if gpus.names else "no GPU"
    free = min((disk.free for disk in condition.disks), default=0) / GIB
    return f"Python {condition.python}, {packages}, {cards}, {free:.0f} GiB free"


def _versions(name: str, condition: Condition, pins: dict[str, str]) -> Iterator[Finding]:
    for package, version in condition.versions.items():
        pinned = pins.get(package, version)
        if not version:
            yield wrong(f"{name}: {package} is not installed: {INSTALL}.")
        elif version.partition("+")[0] != pinned:
            yield wrong(f"{name}: {package} is {version}, and constraints.txt pins {pinned}: {INSTALL}.")


def _room(name: str, disk: Disk) -> Iterator[Finding]:
    if disk.free < LEAST_FREE or disk.free < LEAST_SHARE * disk.total:
        yield wrong(
            f"{name}: the disk of {disk.folder}, for {disk.purpose}, is full: {disk.free / GIB:.1f} of "
            f"{disk.total / GIB:.1f} GiB are free; make room, or give the machine a larger one."
        )


def _gpus(name: str, gpus: Gpus) -> Iterator[Finding]:
    if gpus.usable < len(gpus.names):
        yield wrong(
            f"{name}: PyTorch can use {gpus.usable} of {len(gpus.names)} GPUs: its CUDA needs a newer driver "
            f"than {gpus.driver}, or a GPU is broken (see nvidia-smi)."
        )


# Nodes beside each other


def node(
    name: str, condition: Condition, here: Condition, resources: dict[str, float], pins: dict[str, str]
) -> list[Finding]:
    """What is wrong with one node of a cluster, beside the machine that asks."""
    found = [finding for finding in machine(name, condition, pins) if not finding.well]
    if condition.python != here.python:
        found.append(wrong(f"{name}: Python is {condition.python}, and {here.python} on this machine."))
    if condition.sources != here.sources:
        found.append(
            wrong(f"{name}: this project's files differ from this machine's: run ray up cluster.yaml again.")
        )
    if resources.get("GPU", 0) > len(condition.gpus.names):
        found.append(
            wrong(
                f"{name}: Ray counts {resources['GPU']:g} GPUs and the driver {len(condition.gpus.names)}: "
                "choose an image with NVIDIA's driver, and see nvidia-smi there."
            )
        )
    if 0 < condition.open_files < LEAST_OPEN_FILES:
        found.append(
            wrong(
                f"{name}: Ray may open only {condition.open_files} files: put ulimit -n 65536 before its "
                "start command."
            )
        )
    if condition.token_mode != "token":
        found.append(
            wrong(
                f"{name}: Ray asks for no token, so whoever reaches its ports can run code there: set "
                "RAY_AUTH_MODE=token before ray start, with a token from ray get-auth-token --generate."
            )
        )
    found += [*_storage(name, condition), *_data(name, condition, here)]
    return found or [Finding(f"{name}: {_summary(condition)}.")]


def _storage(name: str, condition: Condition) -> Iterator[Finding]:
    if condition.storage_error:
        yield wrong(f"{name}: the storage cannot be written ({condition.storage_error}).")
    elif not condition.shared:
        yield wrong(
            f"{name}: the storage does not show what this machine wrote there, so it is not shared: give "
            "one that every node reaches, such as --storage s3://bucket/folder."
        )


def _data(name: str, condition: Condition, here: Condition) -> Iterator[Finding]:
    if condition.data_error:
        yield wrong(f"{name}: the data cannot be read ({condition.data_error}).")
    elif (condition.data_files, condition.data_bytes) != (here.data_files, here.data_bytes):
        yield wrong(
            f"{name}: the data is not this machine's: {condition.data_files} files of "
            f"{condition.data_bytes} bytes there, {here.data_files} of {here.data_bytes} here."
        )

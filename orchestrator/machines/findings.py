"""What the reports of machines mean: findings, which say what to do where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.machines.file_systems import Disk
from orchestrator.machines.probe import PROJECT, Gpus, MachineReport

GIB = 1024**3
LEAST_FREE = 5 * GIB
LEAST_SHARE = 0.05
"""Ray stops giving work to a machine whose disk is fuller than 95%."""

LEAST_OPEN_FILES = 4096
HOW_TO_INSTALL = "install as README.md says, or run ray up cluster.yaml again"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, in a sentence."""

    text: str
    ok: bool = True


def wrong(text: str) -> Finding:
    """Return a finding that something is not as it should be."""
    return Finding(text, ok=False)


def pinned_versions() -> dict[str, str]:
    """Return the versions that constraints.txt pins; none where the project is installed without it."""
    path = PROJECT / "constraints.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def machine_findings(name: str, report: MachineReport, pins: dict[str, str]) -> list[Finding]:
    """Return what is wrong with one machine, or a single finding that sums it up if nothing is."""
    return list(_machine_problems(name, report, pins)) or [_summary(name, report)]


def node_findings(
    name: str, report: MachineReport, here: MachineReport, resources: dict[str, float], pins: dict[str, str]
) -> list[Finding]:
    """Return what is wrong with a node of a cluster, or a single finding that sums it up if nothing is.

    Args:
        name: What the findings call the node.
        report: The node's own report.
        here: The report of the machine that asked, with which the node is compared.
        resources: What Ray counts on the node.
        pins: The versions that constraints.txt pins.
    """
    problems = [
        *_machine_problems(name, report, pins),
        *_other_software(name, report, here),
        *_uncounted_gpus(name, report, resources),
        *_ray_settings(name, report),
        *_storage_problems(name, report),
        *_data_problems(name, report, here),
    ]
    return problems or [_summary(name, report)]


def _summary(name: str, report: MachineReport) -> Finding:
    packages = ", ".join(f"{package} {report.versions[package]}" for package in ("ray", "torch"))
    gpus = report.gpus
    cards = f"{len(gpus.names)} x {gpus.names[0]} (driver {gpus.driver})" if gpus.names else "no GPU"
    free = min((disk.free for disk in report.disks), default=0) / GIB
    return Finding(f"{name}: Python {report.python}, {packages}, {cards}, {free:.0f} GiB free.")


# One machine by itself


def _machine_problems(name: str, report: MachineReport, pins: dict[str, str]) -> Iterator[Finding]:
    yield from _wrong_versions(name, report, pins)
    for disk in report.disks:
        yield from _full_disk(name, disk)
    yield from _unusable_gpus(name, report.gpus)
    if report.token_error:
        yield wrong(f"{name}: {report.token_error}.")


def _wrong_versions(name: str, report: MachineReport, pins: dict[str, str]) -> Iterator[Finding]:
    for package, version in report.versions.items():
        pinned = pins.get(package, version)
        if not version:
            yield wrong(f"{name}: {package} is not installed: {HOW_TO_INSTALL}.")
        elif version.partition("+")[0] != pinned:
            yield wrong(
                f"{name}: {package} is {version}, and constraints.txt pins {pinned}: {HOW_TO_INSTALL}."
            )


def _full_disk(name: str, disk: Disk) -> Iterator[Finding]:
    if disk.free < LEAST_FREE or disk.free < LEAST_SHARE * disk.total:
        yield wrong(
            f"{name}: the disk of {disk.folder}, for {disk.purpose}, is full: {disk.free / GIB:.1f} of "
            f"{disk.total / GIB:.1f} GiB are free; make room, or give the machine a larger one."
        )


def _unusable_gpus(name: str, gpus: Gpus) -> Iterator[Finding]:
    if gpus.usable < len(gpus.names):
        yield wrong(
            f"{name}: PyTorch can use {gpus.usable} of {len(gpus.names)} GPUs: its CUDA needs a newer driver "
            f"than {gpus.driver}, or a GPU is broken (see nvidia-smi)."
        )


# A node of a cluster


def _other_software(name: str, report: MachineReport, here: MachineReport) -> Iterator[Finding]:
    if report.python != here.python:
        yield wrong(f"{name}: Python is {report.python}, and {here.python} on this machine.")
    if report.sources != here.sources:
        yield wrong(
            f"{name}: this project's files differ from this machine's: run ray up cluster.yaml again."
        )


def _uncounted_gpus(name: str, report: MachineReport, resources: dict[str, float]) -> Iterator[Finding]:
    counted = resources.get("GPU", 0)
    if counted > len(report.gpus.names):
        yield wrong(
            f"{name}: Ray counts {counted:g} GPUs and the driver {len(report.gpus.names)}: choose an image "
            "with NVIDIA's driver, and see nvidia-smi there."
        )


def _ray_settings(name: str, report: MachineReport) -> Iterator[Finding]:
    if 0 < report.open_files < LEAST_OPEN_FILES:
        yield wrong(
            f"{name}: Ray may open only {report.open_files} files: put ulimit -n 65536 before its start "
            "command."
        )
    if report.token_mode != "token":
        yield wrong(
            f"{name}: Ray asks for no token, so whoever reaches its ports can run code there: set "
            "RAY_AUTH_MODE=token before ray start, with a token from ray get-auth-token --generate."
        )


def _storage_problems(name: str, report: MachineReport) -> Iterator[Finding]:
    answer = report.storage
    if answer is None:
        return
    if answer.error:
        yield wrong(f"{name}: the storage cannot be written ({answer.error}).")
    elif not answer.shared:
        yield wrong(
            f"{name}: the storage does not show what this machine wrote there, so it is not shared: give "
            "one that every node reaches, such as --storage s3://bucket/folder."
        )


def _data_problems(name: str, report: MachineReport, here: MachineReport) -> Iterator[Finding]:
    there, own = report.data, here.data
    if there is None or own is None:
        return
    if there.error:
        yield wrong(f"{name}: the data cannot be read ({there.error}).")
    elif (there.files, there.bytes) != (own.files, own.bytes):
        yield wrong(
            f"{name}: the data is not this machine's: {there.files} files of {there.bytes} bytes there, "
            f"{own.files} of {own.bytes} here."
        )

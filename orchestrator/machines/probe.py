"""What one machine reports of itself: versions, disks, GPUs, Ray's token, and what it can read and write.

Nothing here needs Ray. The doctor calls it on its own machine and, through Ray, on every node of a cluster.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from orchestrator.machines.file_systems import Disk, sweep_disks
from orchestrator.machines.ray_token import token_error
from orchestrator.machines.storage_probe import StorageAnswer, StorageProbe

if sys.platform != "win32":
    import resource

PROJECT = Path(__file__).parents[2]
SOURCES = ("orchestrator", "search_spaces", "trainables")
VERSIONED = ("ray", "torch", "torchvision", "pyarrow", "numpy")
"""Packages that must have the same version on every node."""

DRIVER_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
COUNT_GPUS = "import torch; print(torch.cuda.device_count())"
COMMAND_SECONDS = 60


@dataclass(frozen=True)
class ProbeRequest:
    """What a machine should try beside reporting its own state; None for what it should not."""

    storage: StorageProbe | None = None
    data: str | None = None
    """An absolute path."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a machine: those that the driver names, and how many of them PyTorch can use."""

    names: tuple[str, ...] = ()
    driver: str = ""
    usable: int = 0


@dataclass(frozen=True)
class DataSize:
    """What a path holds on one machine."""

    files: int
    bytes: int
    error: str = ""
    """Why the data cannot be read; "" if it can."""


@dataclass(frozen=True)
class MachineReport:
    """What a machine reports."""

    host: str
    python: str
    versions: dict[str, str]
    """Versions of the packages in VERSIONED; "" for one that is not installed."""
    sources: str
    """A digest of this project's source files."""
    gpus: Gpus
    disks: tuple[Disk, ...]
    open_files: int
    """How many files a process may open; 0 where the system does not say."""
    token_mode: str
    """RAY_AUTH_MODE."""
    token_error: str
    """What is wrong with Ray's token; "" if nothing is."""
    storage: StorageAnswer | None
    """None if no storage was to be tried."""
    data: DataSize | None
    """None if no data was to be read."""


def examine(request: ProbeRequest) -> MachineReport:
    """Return the report of the machine that this process runs on."""
    return MachineReport(
        host=socket.gethostname(),
        python=platform.python_version(),
        versions={name: _version(name) for name in VERSIONED},
        sources=digest_sources(PROJECT),
        gpus=find_gpus(),
        disks=tuple(sweep_disks()),
        open_files=_open_files(),
        token_mode=os.environ.get("RAY_AUTH_MODE", ""),
        token_error=token_error(),
        storage=request.storage.answer() if request.storage else None,
        data=measure(request.data) if request.data else None,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _open_files() -> int:
    return 0 if sys.platform == "win32" else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def digest_sources(project: Path) -> str:
    """Return 12 characters of a SHA-256 over the names and contents of the project's modules."""
    digest = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((project / package).rglob("*.py")):
            digest.update(f"{path.relative_to(project).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def find_gpus() -> Gpus:
    """Return this machine's NVIDIA GPUs; none where their driver is not installed."""
    lines = _output(DRIVER_QUERY).splitlines()
    if not lines:
        return Gpus()
    rows = [line.rpartition(",") for line in lines]
    # Asked in a process of its own, since Ray hides the GPUs from processes that reserved none.
    count = _output((sys.executable, "-c", COUNT_GPUS)).strip()
    usable = int(count) if count.isdigit() else 0
    return Gpus(tuple(name.strip() for name, _, _ in rows), rows[0][2].strip(), usable)


def _output(command: tuple[str, ...]) -> str:
    """Return what a command prints when every GPU is visible to it; "" if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def measure(path: str) -> DataSize:
    """Return how many files a path holds and their total size, reading every folder below it."""
    place = Path(path).expanduser()
    if place.is_file():
        error = "" if os.access(place, os.R_OK) else f"{place} cannot be read"
        return DataSize(1, place.stat().st_size, error)
    if not place.is_dir():
        return DataSize(0, 0, f"{place} is not there")
    problems: list[str] = []
    files = size = 0
    for folder, _, names in os.walk(place, onerror=lambda error: problems.append(str(error))):
        for name in names:
            try:
                size += os.stat(os.path.join(folder, name)).st_size
                files += 1
            except OSError as error:
                problems.append(str(error))
    if not files and not problems:
        problems.append(f"{place} is empty")
    return DataSize(files, size, problems[0] if problems else "")

"""What one machine says of itself: versions, room, GPUs, token, and what it can read and write.

Nothing here needs Ray: cluster.py asks every node of a cluster, doctor.py this machine alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.ledger.storage import open_storage
from trainables.mistake import Mistake

PROJECT = Path(__file__).parents[2]
SOURCES = ("orchestrator", "search_spaces", "trainables")
VERSIONED = ("ray", "torch", "torchvision", "pyarrow", "numpy")
"""Packages that have to be the same on every node."""

DRIVER_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
COUNT_GPUS = "import torch; print(torch.cuda.device_count())"
SHORT_SECONDS = 60


@dataclass(frozen=True)
class Asked:
    """What a machine is to try; None where it is not asked."""

    storage: str | None = None
    probe: str = ""
    """Name of the folder of the storage in which the asker wrote `asker`."""
    data: str | None = None


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a machine: as the driver has them, and how many PyTorch can use."""

    names: tuple[str, ...] = ()
    driver: str = ""
    usable: int = 0


@dataclass(frozen=True)
class Disk:
    """Room where something is written, in bytes."""

    folder: str
    purpose: str
    free: int
    total: int


@dataclass(frozen=True)
class Condition:
    """A machine's answer. Errors are "" where all is well, else what went wrong."""

    host: str
    python: str
    versions: dict[str, str]
    """Of VERSIONED; "" for what is not installed."""
    sources: str
    """A digest of this project's source files."""
    gpus: Gpus
    disks: tuple[Disk, ...]
    open_files: int
    """How many files a process may open."""
    token_mode: str
    token_error: str
    shared: bool
    """Whether the storage shows what the asker wrote there."""
    storage_error: str
    data_files: int
    data_bytes: int
    data_error: str


def examine(asked: Asked) -> Condition:
    """Looks at the machine that this process runs on."""
    shared, storage_error = try_storage(asked.storage, asked.probe) if asked.storage else (True, "")
    files, size, data_error = measure(asked.data) if asked.data else (0, 0, "")
    return Condition(
        host=socket.gethostname(),
        python=platform.python_version(),
        versions={name: _version(name) for name in VERSIONED},
        sources=digest_sources(PROJECT),
        gpus=find_gpus(),
        disks=tuple(_disks()),
        open_files=_open_files(),
        token_mode=os.environ.get("RAY_AUTH_MODE", ""),
        token_error=token_error(),
        shared=shared,
        storage_error=storage_error,
        data_files=files,
        data_bytes=size,
        data_error=data_error,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _open_files() -> int:
    """How many files a process may open; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def digest_sources(project: Path) -> str:
    """The first 12 hex digits of a SHA-256 over the names and contents of the project's modules."""
    digest = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((project / package).rglob("*.py")):
            digest.update(f"{path.relative_to(project).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def find_gpus() -> Gpus:
    """NVIDIA's GPUs; none where its driver is not there."""
    lines = _output(DRIVER_QUERY).splitlines()
    if not lines:
        return Gpus()
    named = [line.rpartition(",") for line in lines]
    # A process of its own: Ray hides the GPUs from those that asked for none.
    count = _output((sys.executable, "-c", COUNT_GPUS)).strip()
    usable = int(count) if count.isdigit() else 0
    return Gpus(tuple(name.strip() for name, _, _ in named), named[0][2].strip(), usable)


def _output(command: tuple[str, ...]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SHORT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _disks() -> Iterator[Disk]:
    """The disks that a sweep writes to on every machine; each once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    seen = set()
    for folder, purpose in ((tempfile.gettempdir(), "Ray's files"), (str(cache), "prepared data")):
        existing = _existing(folder)
        device = os.stat(existing).st_dev
        if device not in seen:
            seen.add(device)
            usage = shutil.disk_usage(existing)
            yield Disk(folder, purpose, usage.free, usage.free + usage.used)


def _existing(folder: str) -> str:
    """A folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def token_path() -> Path:
    """Where Ray looks for its token on this machine."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def token_error() -> str:
    """What is wrong with Ray's token here; "" if nothing is, or RAY_AUTH_MODE asks for none."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return ""
    path = token_path()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        empty = not path.read_text().strip()
    except OSError as error:
        return f"RAY_AUTH_MODE is token, but there is no token in {path} ({error.strerror})"
    if empty:
        return f"RAY_AUTH_MODE is token, but {path} is empty"
    if mode & 0o077:
        return f"others may read the token: {path} has mode {mode:o}, should be 600"
    return ""


# The storage


def try_storage(storage: str, probe: str) -> tuple[bool, str]:
    """Whether it shows the asker's file; and the error of reading or writing it, "" if none."""
    try:
        fs, root = open_storage(storage)
        folder = f"{root}/{probe}"
        shared = fs.get_file_info(f"{folder}/asker").type == pafs.FileType.File
        if shared:
            with fs.open_output_stream(f"{folder}/{socket.gethostname()}-{os.getpid()}") as file:
                file.write(b"written")
        return shared, ""
    except Mistake as mistake:
        return False, str(mistake)
    except (OSError, pa.ArrowException) as error:
        return False, first_line(error)


def begin_probe(storage: str, probe: str) -> str:
    """Writes the asker's file into the storage; the error of doing so, "" if none."""
    try:
        fs, root = open_storage(storage)
        fs.create_dir(f"{root}/{probe}", recursive=True)
        with fs.open_output_stream(f"{root}/{probe}/asker") as file:
            file.write(b"written")
    except Mistake as mistake:
        return str(mistake)
    except (OSError, pa.ArrowException) as error:
        return first_line(error)
    return ""


def end_probe(storage: str, probe: str) -> None:
    """Removes what begin_probe and those who answered it wrote."""
    with suppress(OSError, pa.ArrowException, Mistake):
        fs, root = open_storage(storage)
        fs.delete_dir(f"{root}/{probe}")


def on_network(folder: str) -> bool:
    """Whether a folder is on a file system that other machines may share, as far as its kind tells."""
    kinds = (
        "nfs",
        "cifs",
        "smb",
        "lustre",
        "ceph",
        "gpfs",
        "beegfs",
        "glusterfs",
        "afs",
        "9p",
        "virtiofs",
        "fuse",
    )
    best = ("", "")
    real = os.path.realpath(_existing(folder))
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind = line.split()[:3]
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best[0]):
                best = (place, kind)
    return best[1].startswith(kinds)


# The data


def measure(path: str) -> tuple[int, int, str]:
    """How many files a path holds, their size in bytes, and what was wrong, "" if nothing."""
    place = Path(path).expanduser()
    if place.is_file():
        readable = os.access(place, os.R_OK)
        return 1, place.stat().st_size, "" if readable else f"{place} cannot be read"
    if not place.is_dir():
        return 0, 0, f"{place} is not there"
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
    return files, size, problems[0] if problems else ""


def first_line(error: BaseException) -> str:
    """An error in one line, without its full stop."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")

"""Processes of sweeps: forked from one that has imported everything, watched, and looked for at the end.

Importing torch, MLflow and the rest takes five seconds, a fork a hundredth. A fork is safe while there is one
thread: `preload` makes sure of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.schedules import (
    STOP_AND_GO,
    STOP_AND_KILL,
    STOP_BESIDE_ANOTHER,
    Fault,
)

PATIENCE = 0.6
"""Seconds that an attempt waits here for a storage, instead of minutes."""
LIMIT = 240.0
"""Seconds after which a sweep that should end hangs."""
STOPPED = 0.3
"""Seconds for which a process is suspended."""
LOOK = 0.02

MODULES = (
    *(
        "torch",
        "torch._dynamo",
        "sklearn.datasets",
        "scipy.stats",
        "matplotlib.figure",
        "optuna",
        "pyarrow.parquet",
    ),
    *("matplotlib.backends.backend_agg", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "rich.progress"),
    *("orchestrator.sweep", "orchestrator.cli.sweep_options", "orchestrator.execution.driver"),
    *("orchestrator.reporting.conclusion", "search_spaces", "trainables.data.build", "tests.faults.strikes"),
)

SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "COLUMNS": "150",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


class Become(BaseException):
    """Raised in a forked child, up to the top of the program, which then runs a command as its own."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver


@dataclass(frozen=True)
class Driver:
    """A command to run in a process of its own."""

    words: Sequence[str]
    folder: Path
    """Where its output, home and temporary files go."""
    storage: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    number: int = 0
    limit: float = LIMIT
    """Seconds after which it hangs."""
    figures: bool = True
    """Whether the report draws figures, which takes as long as the eight cells."""

    @property
    def struck(self) -> Path:
        """A line for each fault that struck."""
        return self.folder / "struck"

    @property
    def temporary(self) -> Path:
        """Its folder of temporary files, with a short path: the system limits the paths of Ray's sockets."""
        return Path(f"/tmp/f{zlib.crc32(os.fsencode(self.folder)):08x}")

    def output(self, stream: str) -> Path:
        """The file that holds what it printed."""
        return self.folder / f"{self.number}.{stream}"

    def run(self) -> int:
        """Run the command in this process and return its exit code."""
        from tests.faults.strikes import Strikes

        for descriptor, stream in ((1, "out"), (2, "err")):
            target = os.open(self.output(stream), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(target, descriptor)
            os.close(target)
        os.environ.update(self.environment)
        (self.folder / "home").mkdir(exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        os.environ["HOME"] = str(self.folder / "home")
        os.environ["TMPDIR"] = os.environ["RAY_TMPDIR"] = str(self.temporary)
        tempfile.tempdir = None
        sys.argv = ["sweep", *self.words]
        if self.faults:
            Strikes(self.faults, self.storage, self.struck).arm()
        _shorten_patience()
        if not self.figures:
            importlib.import_module("orchestrator.reporting.report").draw_figures = lambda *_, **__: {}  # type: ignore[attr-defined]
        from orchestrator.sweep import main

        return main()


def _shorten_patience() -> None:
    for name in ("orchestrator.execution.attempt", "orchestrator.execution.driver"):
        module = importlib.import_module(name)
        if hasattr(module, "PATIENCE_SECONDS"):
            module.PATIENCE_SECONDS = PATIENCE  # type: ignore[attr-defined]


def preload(cache: Path) -> None:
    """Import what sweeps import, so that a fork has it; raise RuntimeError if that left a thread behind."""
    for name, folder in (("XDG_CACHE_HOME", "cache"), ("MPLCONFIGDIR", "matplotlib"), ("HOME", "home")):
        (cache / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(cache / folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    for name in MODULES:
        importlib.import_module(name)
    from search_spaces import find_benchmark

    find_benchmark("digits")
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len([name for name in threads if name != "jemalloc_bg_thd"]) > 1:  # which looks after forks itself
        raise RuntimeError(f"a fork would lose one of the threads {threads}")


def fork(driver: Driver) -> int:
    """Start a command in a session of its own and return its process id."""
    driver.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    os.setsid()
    raise Become(driver)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is out of sight."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def mount_small_disk(folder: Path, megabytes: int) -> bool:
    """Mount a disk in memory that this process and its children alone see; return whether that is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() or libc.unshare(CLONE_NEWNS):
        return False
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        return False
    options = f"size={megabytes}m".encode()
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options)


def exit_code(status: int) -> int:
    """Return an exit code, or minus the signal that ended the process."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


@dataclass
class Ended:
    """How a process ended."""

    code: int
    hung: bool = False
    beside: int | None = None
    """The exit code of the other one that was started while it was suspended."""


def wait(
    process: int, driver: Driver, mark: Path | None = None, watch: Callable[[int], object] | None = None
) -> Ended:
    """Wait for a process's end; go on with, or end, one that a fault suspended, and end one that hangs.

    `mark` is a file that a plug-in writes to before it hangs, as it is expected to. `watch` is called with
    the process again and again.
    """
    limit, ended = time.monotonic() + driver.limit, Ended(0)
    marked = _size(mark)
    while True:
        if watch is not None:
            watch(process)
        found, status = os.waitpid(process, os.WNOHANG | os.WUNTRACED)
        if found == process and os.WIFSTOPPED(status):
            what = [f.what for f in driver.faults if str(f) in driver.struck.read_text()]
            if STOP_BESIDE_ANOTHER in what:
                other = Driver(
                    driver.words, driver.folder, driver.storage, driver.environment, (), driver.number + 50
                )
                ended.beside = wait(fork(other), other).code
            time.sleep(STOPPED)
            deadly = STOP_AND_KILL in what and not {STOP_AND_GO, STOP_BESIDE_ANOTHER} & set(what)
            os.killpg(process, signal.SIGKILL if deadly else signal.SIGCONT)
        elif found == process:
            ended.code = exit_code(status)
            return ended
        elif _size(mark) > marked:
            time.sleep(STOPPED)
            os.killpg(process, signal.SIGKILL)
            marked = _size(mark)
        elif time.monotonic() > limit:
            ended.hung = True
            os.killpg(process, signal.SIGKILL)
            limit = time.monotonic() + LIMIT
        time.sleep(LOOK)


def _size(mark: Path | None) -> int:
    return mark.stat().st_size if mark is not None and mark.exists() else 0


def orphans(seconds: float) -> list[str]:
    """Return the command lines of the processes that are left below this one, after waiting for their end."""
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid())
        if not left or time.monotonic() > limit:
            found = [command_of(process) or f"process {process}" for process in left]
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return found
        time.sleep(LOOK)


def descendants(ancestor: int) -> list[int]:
    """Return the processes below one, by their parents."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, front = [], [ancestor]
    while front:
        front = [process for process, parent in parents.items() if parent in front]
        found += front
    return found


def command_of(process: int) -> str:
    """Return the beginning of a process's command line; empty if it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()[:200]
    except OSError:
        return ""

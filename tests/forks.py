"""Commands run in forks of a process that has imported the libraries already.

Importing torch, scikit-learn, matplotlib and MLflow takes most of the time of a tiny sweep. The project's own
modules are not imported beforehand: every command finds them anew, in its own folder and environment.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest.mock import patch

LIBRARIES = (
    *("torch", "torch._dynamo", "sklearn.datasets", "scipy.stats", "optuna", "pyarrow.parquet"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "rich.progress"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store"),
)
WITHOUT_THREADS = {
    "CUDA_VISIBLE_DEVICES": "",
    "OPENBLAS_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""With these no library starts a thread when it is imported; a fork would lose it."""


@dataclass(frozen=True)
class Command:
    """`python -m module words`, as started in a folder with an environment."""

    module: str
    words: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    blocked: bool
    """Whether ray and mlflow cannot be imported."""
    output: str
    """The folder of what it prints, in files out and err."""


def run_forked(
    module: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], *, blocked: bool
) -> subprocess.CompletedProcess[str]:
    """Run a module as a program to its end, and return what it printed and its exit code."""
    with tempfile.TemporaryDirectory() as output:
        command = Command(module, tuple(words), str(folder), dict(environment), blocked, output)
        process = _server().Process(target=_become, args=(command,))
        process.start()
        process.join()
        out, err = (Path(output, stream).read_text(encoding="utf-8") for stream in ("out", "err"))
        return subprocess.CompletedProcess([module, *words], process.exitcode or 0, out, err)


@cache
def _server() -> ForkServerContext:
    """Return what forks this process's own server, which ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    with patch.dict(os.environ, WITHOUT_THREADS):
        forkserver.ensure_running()
    return context


def _become(command: Command) -> None:
    """Be the command."""
    for descriptor, path in ((0, os.devnull), (1, f"{command.output}/out"), (2, f"{command.output}/err")):
        target = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(target, descriptor)
        os.close(target)
    missing = [name for name in LIBRARIES if name not in sys.modules]
    assert not missing, f"the server could not import {missing}"
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.folder)
    tempfile.tempdir = None
    sys.path[:0] = [
        command.folder,
        *filter(None, command.environment.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    sys.argv = [command.module, *command.words]
    sys.orig_argv = [sys.executable, "-m", command.module, *command.words]
    if command.blocked:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
        sys.modules["ray"] = sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        runpy.run_module(command.module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out

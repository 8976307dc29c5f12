"""Running sweeps as a person does, and reading what they leave, for the tests of several modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.forks import run_forked

ROOT = Path(__file__).parent.parent
SMALL = ["--holdouts", "3", "8", "--seeds", "2", "--lambda-trials", "2", "--set", "epochs=3", "ap_window=2"]
"""2 holdouts x 2 seeds x 2 methods and 2 search cells a holdout: 12 cells, each of a second or less."""

PLAIN = {"COLUMNS": "150", "CUDA_VISIBLE_DEVICES": ""}
"""A wide terminal, and CPUs, which alone give the same bits again."""

BLOCKED = "import sys; sys.modules['ray'] = sys.modules['mlflow'] = None; import runpy; "


def command(*words: object, blocked: bool = False, module: str = "orchestrator.sweep") -> list[str]:
    """The command line of a module; `blocked` runs it where ray and mlflow cannot be imported."""
    if blocked:
        run = (
            f"{BLOCKED}sys.argv = ['sweep'] + sys.argv[1:]; runpy.run_module('{module}', run_name='__main__')"
        )
        return [sys.executable, "-c", run, *map(str, words)]
    return [sys.executable, "-m", module, *map(str, words)]


def run(
    *words: object, blocked: bool = False, module: str = "orchestrator.sweep", folder: Path = ROOT
) -> subprocess.CompletedProcess:
    """Runs a folder's code to its end there; where no Ray starts, in a fork (tests/forks.py)."""
    environment = {**os.environ, **PLAIN, "PYTHONPATH": str(folder)}
    if sys.platform == "linux" and ("inline" in words or module != "orchestrator.sweep"):
        return run_forked(module, [*map(str, words)], folder, environment, blocked=blocked)
    line = command(*words, blocked=blocked, module=module)
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=environment)


def only_sweep(storage: Path) -> Path:
    """The folder of the one sweep in a storage folder."""
    (found,) = [path.parent for path in storage.glob("*/sweep.json")]
    return found


def cells(sweep: Path) -> dict[str, Path]:
    """Folders of the cells that are done, by label."""
    found = {}
    for result in sweep.glob("cells/*/result.json"):
        cell = json.loads((result.parent / "cell.json").read_text())["cell"]
        place = f"s{cell['seed']}" if cell["search_index"] is None else f"search{cell['search_index']}"
        found[f"{cell['method']}/{cell['holdout']}/{place}"] = result.parent
    return found


def comparable(cell: Path) -> tuple:
    """All of a cell that equal runs share: result.json without its attempt, scores, curves without speed."""
    result = json.loads((cell / "result.json").read_text())
    del result["attempt"]
    result.pop("digest", None)  # which covers the attempt
    curves = pq.read_table(cell / "curves.parquet")
    timeless = [name for name in curves.column_names if not name.startswith("speed/")]
    scores = cell / "scores.parquet"
    return result, curves.select(timeless).to_pylist(), scores.read_bytes() if scores.exists() else b""


def assert_equal_sweeps(one: Path, other: Path) -> None:
    """Both sweeps have the same cells with the same results, bit for bit."""
    first, second = cells(one), cells(other)
    assert first.keys() == second.keys()
    for label in first:
        assert first[label].name == second[label].name, f"{label} has another key"
        assert comparable(first[label]) == comparable(second[label]), label

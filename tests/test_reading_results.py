"""docs/reading-results.md: its code runs as it stands, and its frames have the ledger's numbers."""

from __future__ import annotations

import csv
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator import open_sweep
from orchestrator.reporting.frames import CELL, OpenedSweep
from orchestrator.score import main as score
from tests.hand_made_ledger import specification, write_sweep
from tests.sweeps import ROOT, cells, run
from trainables.mistake import Mistake

PAGE = (ROOT / "docs" / "reading-results.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"```sh\npython -m orchestrator.sweep (.*)\n```", PAGE)
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's sweep in runs/."""
    folder = tmp_path_factory.mktemp("notebook")
    done = run(*shlex.split(COMMAND), "--storage", folder / "runs")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def sweep(folder: Path) -> OpenedSweep:
    return open_sweep("two-digits", storage=str(folder / "runs"))


def report_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs" / "two-digits" / "report" / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_s_code_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    found: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/reading-results.md", "exec"), found)
    rows = report_of(folder)
    for holdout in ("3", "8"):
        for method in ("classification", "rotation"):
            values = [
                float(row["ap_msp"]) for row in rows if (row["holdout"], row["method"]) == (holdout, method)
            ]
            assert found["table"].loc[holdout, ("mean", method)] == pytest.approx(statistics.fmean(values))
            assert found["table"].loc[holdout, ("std", method)] == pytest.approx(statistics.stdev(values))
    assert list(found["average"].index) == ["classification", "rotation"]
    assert list(found["gains"].index) == ["3", "8"]
    assert len(found["tried"]) == 4
    assert set(found["chosen"]) <= set(found["tried"]["aux_weight_rotation"])
    assert list(found["lines"].index) == [1, 2, 3]
    assert (folder / "accuracy.png").stat().st_size > 1000
    assert found["hard_ap"].between(0, 1).all()
    assert len(found["hard_ap"]) == 8
    assert sum(found["counts"].values()) == 73, "digits has 73 test images of a 3"
    assert "3" not in found["counts"]
    assert 0 < found["false_alarms"] < 1


def test_cells_have_the_values_of_the_report(folder: Path, sweep: OpenedSweep) -> None:
    frame = sweep.cells
    assert tuple(frame.columns[:5]) == CELL
    assert frame["phase"].value_counts().to_dict() == {"final": 8, "search": 4}
    assert frame["search_index"].dtype == "Int64"
    by_key = frame.set_index("key")
    rows = report_of(folder)
    assert len(rows) == 8
    for row in rows:
        ours = by_key.loc[row["key"]]
        for name in ("ap_msp", "ap_odin_last", "test_accuracy", "skew", "seconds", "attempts"):
            assert ours[name] == pytest.approx(float(row[name]), abs=0), name
        weight = row["aux_weight_rotation"]
        assert (
            (ours["aux_weight_rotation"] == float(weight)) if weight else ours.isna()["aux_weight_rotation"]
        )
    searches = frame.query("phase == 'search'")
    assert searches["val_accuracy"].between(0.5, 1).all()
    assert searches["ap_msp"].isna().all()


def test_curves_and_scores_have_every_row_of_the_ledger(folder: Path, sweep: OpenedSweep) -> None:
    of_cells = cells(folder / "runs" / "two-digits")
    assert len(sweep.curves) == sum(pq.read_table(c / "curves.parquet").num_rows for c in of_cells.values())
    one = sweep.curves.query("method == 'rotation' and holdout == '8' and seed == 1 and phase == 'final'")
    written = pq.read_table(of_cells["rotation/8/s1"] / "curves.parquet").to_pandas()
    np.testing.assert_array_equal(one["ap/msp"], written["ap/msp"])
    assert len(sweep.scores) == 8 * 719
    one = sweep.scores.query("method == 'rotation' and holdout == '8' and seed == 1")
    written = pq.read_table(of_cells["rotation/8/s1"] / "scores.parquet").to_pandas()
    np.testing.assert_array_equal(one["odin"], written["odin"])
    np.testing.assert_array_equal(one["is_anomaly"], written["is_anomaly"])


def test_detectors_that_came_later_are_columns(folder: Path, tmp_path: Path) -> None:
    words = ["two-digits", "--detectors", "entropy", "--storage", str(folder / "runs")]
    assert score(words) == 0
    again = open_sweep("two-digits", storage=str(folder / "runs"))
    assert again.scores["entropy"].notna().all()
    assert again.cells.query("phase == 'final'")["ap_entropy"].notna().all()
    assert again.curves.query("phase == 'final'")["ap/entropy"].notna().any()


def test_a_sweep_without_results_has_empty_frames_and_rows_that_wait(tmp_path: Path) -> None:
    write_sweep(tmp_path, specification())
    sweep = open_sweep("mine", storage=str(tmp_path))
    assert set(sweep.cells["state"]) == {"not begun", "blocked"}
    assert len(sweep.cells) == 20
    for frame in (sweep.curves, sweep.scores):
        assert (len(frame), tuple(frame.columns)) == (0, CELL)


def test_a_sweep_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="There is no sweep 'gone' in"):
        open_sweep("gone", storage=str(tmp_path))


def test_opening_imports_nothing_heavy_and_the_package_not_even_pandas(folder: Path) -> None:
    code = (
        "import sys\n"
        "import orchestrator, orchestrator.planning.request\n"
        "assert 'pandas' not in sys.modules\n"
        "sys.modules.update(dict.fromkeys(['torch', 'ray', 'mlflow', 'optuna'], None))\n"
        "from orchestrator import open_sweep\n"
        f"sweep = open_sweep('two-digits', {str(folder / 'runs')!r})\n"
        "print(len(sweep.cells), len(sweep.curves), len(sweep.scores))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["12", "36", str(8 * 719)], done.stderr


def test_the_package_offers_nothing_else() -> None:
    import orchestrator

    with pytest.raises(AttributeError, match="no attribute 'close_sweep'"):
        orchestrator.close_sweep  # type: ignore[attr-defined]  # noqa: B018

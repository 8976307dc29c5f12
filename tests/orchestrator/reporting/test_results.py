"""What is read from a ledger: final cells, states, averages and the choice of lambda."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.reporting.results import BEGUN, BLOCKED, DONE, NOT_BEGUN, cells_csv, collect
from tests.hand_made_ledger import finish, finish_all, opened, plain_value, specification, write_sweep
from trainables.mistake import Mistake

DIGITS = tuple("0123456789")


def varied(cell: Cell, metric: str) -> float:
    """Different for every class, seed, method and metric."""
    return plain_value(cell, metric) + 0.003 * int(cell.holdout) * (1 + cell.seed**2)


def test_estimates_and_averages_are_numpy_s(tmp_path: Path) -> None:
    wanted = specification()
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells, value=varied)
    results = collect(ledger)
    for method in wanted.methods:
        for metric in ("ap_msp", "ap_odin", "test_accuracy"):
            grid = np.array(
                [[varied(Cell("", FINAL, h, method, seed), metric) for seed in range(3)] for h in ("3", "8")]
            )
            for row, holdout in zip(grid, ("3", "8"), strict=True):
                found = results.estimate(method, holdout, metric)
                assert found is not None
                assert (found.mean, found.std) == (
                    pytest.approx(row.mean()),
                    pytest.approx(row.std(ddof=1)),
                )
            average = results.average(method, metric)
            assert average is not None
            assert average.mean == pytest.approx(grid.mean())
            assert average.std == pytest.approx(grid.mean(axis=0).std(ddof=1))
    assert results.skew("3") == results.average_skew() == pytest.approx(0.1)
    assert set(results.states.values()) == {DONE}


def test_every_cell_has_its_state(tmp_path: Path) -> None:
    wanted = specification()
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.phase == SEARCH and cell.holdout == "8" and cell.search_index == 3:
            for _ in range(4):
                ledger.begin(cell.key, {"opened": opened(cell, wanted, DIGITS)})
        elif not (cell.holdout == "8" and cell.phase == FINAL):
            finish(ledger, wanted, cell)
    results = collect(ledger)
    states = {cell.label: state for cell, state in results.states.items()}
    assert states["rotation/8/search3"] == BEGUN
    assert states["rotation/8/s1"] == BLOCKED
    assert states["classification/8/s1"] == NOT_BEGUN
    assert states["rotation/3/s1"] == DONE
    attempts = {cell.label: results.attempts(cell) for cell in results.states}
    assert (attempts["rotation/8/search3"], attempts["rotation/3/s0"]) == (4, 1)
    assert results.average("rotation", "ap_msp") is None
    assert results.weights("rotation", "8") is None
    assert results.weights("rotation", "3") == {"rotation": 0.4}


def test_a_cell_with_a_truncated_file_is_not_done(tmp_path: Path) -> None:
    wanted = specification(seeds=2)
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    cut, unreadable, *_ = cells.free
    path = Path(ledger.uri, "cells", cut.key, "scores.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    Path(ledger.uri, "cells", unreadable.key, "result.json").write_text("{")
    results = collect(ledger)
    assert {cell for cell, state in results.states.items() if state != DONE} == {cut, unreadable}
    assert {results.states[cut], results.states[unreadable]} == {BEGUN}


def test_lambda_is_the_recorded_one_and_a_disagreement_is_found(tmp_path: Path) -> None:
    wanted = specification()
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        other = cell.phase == FINAL and cell.holdout == "8" and cell.method == "rotation"
        finish(ledger, wanted, cell, weights={"rotation": 0.2} if other else None)
    results = collect(ledger)
    three, eight = results.selections
    assert (three.chosen, three.disagrees) == (Hyperparameters({"rotation": 0.4}), False)
    assert (eight.chosen, eight.disagrees) == (Hyperparameters({"rotation": 0.4}), True)
    assert results.weights("rotation", "8") == {"rotation": 0.2}


def test_one_lambda_for_the_benchmark_is_chosen_by_the_mean_over_held_out_classes(tmp_path: Path) -> None:
    wanted = specification(select="benchmark")
    ledger, cells = write_sweep(tmp_path, wanted)
    accuracies = {"3": [0.9, 0.5, 0.8, 0.1], "8": [0.1, 0.6, 0.7, 0.1]}  # means .5 .55 .75 .1
    for cell in cells.all():
        found = accuracies[cell.holdout][cell.search_index] if cell.search_index is not None else 0.0
        finish(ledger, wanted, cell, values={"value": found} if cell.phase == SEARCH else None)
    (study,) = collect(ledger).selections
    assert [point.tried.value for point in study.points] == pytest.approx([0.5, 0.55, 0.75, 0.1])
    assert study.chosen == Hyperparameters({"rotation": 0.4})
    assert not study.disagrees


def test_ties_go_by_the_order_of_the_tasks_not_of_json(tmp_path: Path) -> None:
    classes = ("a", "b", "c")
    wanted = specification(
        classes,
        benchmark="image-folder",
        holdouts=("a",),
        methods=("rotation+cpc",),
        seeds=1,
        assignments=("lambda.rotation=1,2", "lambda.cpc=1,2", "image_size=56"),
    )
    ledger, cells = write_sweep(tmp_path, wanted, classes=classes)
    points = [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]
    for cell in cells.all():
        if cell.search_index is not None:
            rotation, cpc = points[cell.search_index]
            value = 0.9 if cell.search_index in (1, 2) else 0.1
            weights = {"rotation": rotation, "cpc": cpc}
            finish(ledger, wanted, cell, classes=classes, weights=weights, values={"value": value})
    (study,) = collect(ledger).selections
    assert study.chosen == Hyperparameters({"rotation": 1.0, "cpc": 2.0})


def test_cells_csv_has_every_final_cell(tmp_path: Path) -> None:
    wanted = specification(holdouts=("3", "none"))
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.label != "classification/3/s2":
            finish(ledger, wanted, cell)
    rows = {
        (row["method"], row["holdout"], row["seed"]): row
        for row in csv.DictReader(io.StringIO(cells_csv(collect(ledger))))
    }
    assert len(rows) == 2 * 2 * 3
    done = rows["rotation", "3", "2"]
    assert float(done["ap_msp"]) == plain_value(Cell("", FINAL, "3", "rotation", 2), "ap_msp")
    assert (done["aux_weight_rotation"], done["state"], done["attempts"]) == ("0.4", DONE, "1")
    assert (rows["rotation", "none", "0"]["ap_msp"], rows["rotation", "none", "0"]["state"]) == ("", DONE)
    assert rows["classification", "3", "2"]["state"] == NOT_BEGUN
    assert rows["classification", "3", "0"]["aux_weight_rotation"] == ""


def test_a_missing_or_foreign_sweep_is_a_mistake(tmp_path: Path) -> None:
    ledger, _ = write_sweep(tmp_path, specification())
    with pytest.raises(Mistake, match=r"no sweep 'other' .* sweeps there: mine"):
        collect(type(ledger)(ledger.storage, "other"))
    ledger.write_sweep({"specification": {}})
    with pytest.raises(Mistake, match="not a sweep of this version"):
        collect(ledger)


def add_later(ledger: Ledger, cell: Cell, name: str, windowed: bool = True, **metrics: float) -> None:
    """Writes a detector's record as the command that adds it does."""
    about = {
        "label": name.upper(),
        "windowed": windowed,
        "source": "s",
        "metrics": {f"final/{metric}": value for metric, value in metrics.items()},
        "by_epoch": {},
        "opened": [],
        "attempt": {"finished_at": 2000.0},
    }
    ledger.write_later(cell.key, name, pa.table({"index": [0], name: [0.5]}), about)


def test_later_detectors_are_columns_beside_the_sweep_s_own(tmp_path: Path) -> None:
    wanted = specification(seeds=2, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    for cell in cells.all():
        at = 0.1 * (1 + cell.seed)
        add_later(ledger, cell, "vim", windowed=False, ap_vim_last=at, auroc_vim=0.5, fpr95_vim=0.6)
        add_later(ledger, cell, "energy", ap_energy=at, ap_energy_last=2 * at)
        add_later(ledger, cell, "msp", ap_msp=1.0, ap_msp_last=1.0)  # which the cell has already
    results = collect(ledger)
    assert results.aps == {
        "ap_msp": "AP-MSP",
        "ap_odin": "AP-ODIN",
        "ap_energy": "AP-ENERGY",
        "ap_vim_last": "AP-VIM (last)",
    }
    found = results.estimate("classification", "3", "ap_vim_last")
    assert found is not None
    assert found.mean == pytest.approx(np.mean([0.1, 0.2]))
    rows = list(csv.DictReader(io.StringIO(cells_csv(results))))
    assert {row["ap_energy_last"] for row in rows} == {"0.2", "0.4"}
    assert {row["ap_vim"] for row in rows} == {""}
    assert {row["auroc_vim"] for row in rows} == {"0.5"}
    assert max(float(row["ap_msp"]) for row in rows) < 0.5
    assert results.incomplete == {}


def test_windowed_values_are_not_set_beside_others_and_lacking_cells_are_counted(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    first, second = cells.all()
    add_later(ledger, first, "energy", ap_energy=0.4, ap_energy_last=0.5)
    results = collect(ledger)
    assert results.aps["ap_energy"] == "AP-ENERGY"
    assert results.incomplete == {"energy": 1}
    add_later(ledger, second, "energy", windowed=False, ap_energy_last=0.6)
    results = collect(ledger)
    assert "ap_energy" not in results.aps
    assert results.aps["ap_energy_last"] == "AP-ENERGY (last)"
    assert results.incomplete == {}

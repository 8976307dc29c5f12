"""One attempt at a cell: what it writes, and what it goes on from."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orchestrator.execution import attempt as module
from orchestrator.execution.attempt import Task, run_trial
from orchestrator.ledger.ledger import CURVES, SCORES, Ledger, Superseded
from orchestrator.planning.cells import Cell, lay_out
from orchestrator.planning.data import data_request
from orchestrator.planning.specification import Request, complete
from trainables.data.prepared import Prepared
from trainables.detectors.scoring import average_precision

EPOCHS = 4


class Trials:
    """The cells of a small sweep, run one by one."""

    def __init__(self, storage: Path, digits: Prepared) -> None:
        request = Request(
            holdouts=("3",),
            seeds=1,
            assignments=(f"epochs={EPOCHS}", "ap_window=1", "checkpoint_seconds=0", "keep_checkpoints=true"),
        )
        wanted, conduct = complete(request, digits.classes)
        self.ledger = Ledger(str(storage), "mine")
        data = data_request(wanted, "./data", cache="", download=False)
        self.task = Task(wanted, conduct, self.ledger, data, digits.fingerprint)
        self.cells = {cell.label: cell for cell in lay_out(wanted, digits.fingerprint).all()}
        self.reports: list[int] = []

    def run(self, cell: Cell) -> dict:
        weights = {"rotation": 0.5} if cell.method == "rotation" else {}
        return run_trial(self.task, cell, weights, lambda _, epoch: self.reports.append(epoch))


@pytest.fixture
def trials(tmp_path: Path, digits: Prepared) -> Trials:
    return Trials(tmp_path, digits)


def test_a_final_cell_leaves_curves_scores_and_the_result_that_vouches_for_them(trials: Trials) -> None:
    cell = trials.cells["rotation/3/s0"]
    result = trials.run(cell)
    assert trials.ledger.result(cell.key) == result
    curves = trials.ledger.read_table("cells", cell.key, CURVES).to_pylist()
    assert [row["epoch"] for row in curves] == [1, 2, 3, 4]
    assert [row["ap/msp"] is not None for row in curves] == [False, False, False, True]
    scores = trials.ledger.read_table("cells", cell.key, SCORES)
    assert {"index", "label", "is_anomaly", "logits", "msp", "odin"} == set(scores.column_names)
    found = {name: scores[name].to_numpy(zero_copy_only=False) for name in ("msp", "is_anomaly")}
    ap = average_precision(found["msp"], found["is_anomaly"])
    assert result["values"]["final/ap_msp"] == pytest.approx(ap, abs=1e-12)
    assert trials.reports == sorted(set(trials.reports))


def test_a_cut_checkpoint_is_passed_over_for_the_one_before(trials: Trials) -> None:
    cell = trials.cells["classification/3/s0"]
    expected = trials.run(cell)
    folder = Path(trials.ledger.path("cells", cell.key, "checkpoint"))
    newest, older = (folder / name for name in trials.ledger.checkpoints(cell.key))
    newest.write_bytes(newest.read_bytes()[:1000])
    Path(trials.ledger.path("cells", cell.key, "result.json")).unlink()
    again = trials.run(cell)
    assert again["attempt"]["resumed_after_epoch"] == int(older.name.split("-")[0])
    assert again["attempt"]["number"] == 2
    assert again["values"] == expected["values"]
    assert again["checksums"] == expected["checksums"]


def test_an_epoch_keeps_the_time_at_which_it_was_first_recorded(trials: Trials) -> None:
    """Otherwise a tracker that was told of it would be told of another point."""
    cell = trials.cells["classification/3/s0"]
    trials.run(cell)
    before = trials.ledger.read_table("cells", cell.key, CURVES)["speed/finished_at"].to_pylist()
    trials.ledger.remove_checkpoints(cell.key)
    Path(trials.ledger.path("cells", cell.key, "result.json")).unlink()
    trials.run(cell)
    assert trials.ledger.read_table("cells", cell.key, CURVES)["speed/finished_at"].to_pylist() == before


def test_an_attempt_that_was_taken_over_writes_no_result(trials: Trials) -> None:
    cell = trials.cells["classification/3/s0"]

    def take_over(key: str, epoch: int) -> None:
        trials.ledger.begin(key, {})

    with pytest.raises(Superseded):
        run_trial(trials.task, cell, {}, take_over)
    assert trials.ledger.result(cell.key) is None


@pytest.mark.parametrize(("epoch", "every"), [(20.0, 60.0), (25.0, 50.0), (35.0, 35.0), (70.0, 70.0)])
def test_no_checkpoint_is_older_than_a_minute_or_an_epoch(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, epoch: float, every: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    conduct = replace(trials.task.conduct, checkpoint_seconds=60.0)
    cell = trials.cells["classification/3/s0"]
    attempt = trials.ledger.begin(cell.key, {})
    written = [now[0]]
    with module._Writer(replace(trials.task, conduct=conduct), cell.key, attempt) as writer:
        for number in range(1, 13):
            now[0] += epoch
            if writer.due():
                writer.put(number, b"state", [])
                written.append(now[0])
    ages = {after - before for before, after in itertools.pairwise(written)}
    assert ages == {every}


def test_a_cell_that_is_done_is_not_run_again(trials: Trials) -> None:
    """Its process may have died after the result and before anyone heard of it."""
    cell = trials.cells["classification/3/s0"]
    expected = trials.run(cell)
    folder = Path(trials.ledger.path("cells", cell.key))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    trials.reports.clear()
    assert trials.run(cell) == expected
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert trials.reports == [EPOCHS]


def test_checkpoints_of_a_done_cell_go_unless_they_are_to_stay(trials: Trials) -> None:
    cell = trials.cells["rotation/3/search0"]
    trials.run(cell)
    assert trials.ledger.checkpoints(cell.key)
    trials.task = replace(trials.task, conduct=replace(trials.task.conduct, keep_checkpoints=False))
    other = trials.cells["rotation/3/search1"]
    trials.run(other)
    assert not trials.ledger.checkpoints(other.key)
    assert torch.get_num_threads() == trials.task.specification.threads

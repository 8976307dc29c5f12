"""Search cells that train by rungs: what they leave at each, and the result of one that goes no further."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution.attempt import RUNG, VALUE, run_attempt
from orchestrator.planning.cells import SEARCH, Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import Assignment
from tests.orchestrator.execution.test_attempt import EPOCHS, Attempts
from trainables.data.prepared import Prepared

RUNGS = (1, 2)
WHAT = Hyperparameters({"rotation": 0.5}, {"learning_rate": 0.05})


class Trials(Attempts):
    """Runs one search cell, to rungs or to its end."""

    def __init__(self, storage: Path, digits: Prepared) -> None:
        super().__init__(storage, digits)
        self.sweep = replace(self.sweep, settings=replace(self.sweep.settings, keep_checkpoints=False))

    @property
    def cell(self) -> Cell:
        return next(cell for cell in self.cells.values() if cell.phase == SEARCH)

    def train(self, until: int | None = None, *, stops: bool = False) -> dict[str, Any]:
        assignment = Assignment(self.cell, WHAT, until, stops, RUNGS)
        return run_attempt(self.sweep, assignment, lambda _, epoch: self.reports.append(epoch))

    @property
    def rungs(self) -> dict[int, float]:
        return self.ledger.read_rungs([self.cell.key])[0].get(self.cell.key, {})

    @property
    def endings(self) -> list[str]:
        return [record["ending"] for record in self.ledger.attempts_at(self.cell.key)]


@pytest.fixture
def trials(tmp_path: Path, digits: Prepared) -> Trials:
    return Trials(tmp_path / "rungs", digits)


def test_a_cell_that_pauses_at_rungs_ends_as_one_that_does_not(
    trials: Trials, tmp_path: Path, digits: Prepared
) -> None:
    straight = Trials(tmp_path / "straight", digits)
    expected = straight.train()
    for rung in RUNGS:
        at = trials.train(rung)
        assert at == {RUNG: rung, VALUE: trials.rungs[rung]}
        assert trials.ledger.read_result(trials.cell.key) is None
        assert trials.ledger.newest_epoch(trials.cell.key) == rung
    result = trials.train()
    for name in ("values", "rungs", "aux_weights", "fields"):
        assert result[name] == expected[name]
    assert {int(epoch): value for epoch, value in result["rungs"].items()} == trials.rungs
    assert trials.endings == ["paused", "paused", "done"]
    assert trials.reports[:2] == [1, 2]

    def losses(of: Trials) -> list[float]:
        return [row["train/loss"] for row in of.ledger.read_curves(of.cell.key)]

    assert losses(trials) == losses(straight)
    rates = [row["train/learning_rate"] for row in trials.ledger.read_curves(trials.cell.key)]
    assert rates[-1] < rates[0] == pytest.approx(0.05)  # the schedule is that of all epochs
    assert trials.ledger.read_cell(trials.cell.key)["run"]["recipe"]["learning_rate"] == 0.05


def test_a_cell_that_goes_no_further_has_the_value_of_its_rung(trials: Trials) -> None:
    trials.train(1)
    reached = trials.train(2)[VALUE]
    result = trials.train(2, stops=True)
    assert result["values"] == {"value": reached, "diverged": False, "epochs": 2}
    assert (result["stopped_at"], result["rungs"]) == (2, {"1": trials.rungs[1]})
    assert (result["aux_weights"], result["fields"]) == (WHAT.aux_weights, WHAT.fields)
    assert trials.ledger.read_result(trials.cell.key) == result
    assert trials.ledger.read_cell(trials.cell.key)["opened"]
    assert not trials.ledger.checkpoints(trials.cell.key)
    assert trials.endings == ["paused", "paused", "done"]
    assert len(trials.ledger.read_curves(trials.cell.key)) == 2
    assert trials.train(2, stops=True) == result


def test_a_record_that_was_lost_is_written_again_from_the_checkpoint(trials: Trials) -> None:
    trials.train(1)
    before = trials.train(2)
    (record,) = Path(trials.ledger.uri, "cells", trials.cell.key).glob("rung-2.json")
    record.write_bytes(record.read_bytes()[:-9])
    values, damaged = trials.ledger.read_rungs([trials.cell.key])
    assert values[trials.cell.key].keys() == {1}
    assert [each.path for each in damaged] == [f"cells/{trials.cell.key}/rung-2.json"]
    assert [each.path for each in trials.ledger.damaged([trials.cell.key])] == [damaged[0].path]
    trials.ledger.set_aside(damaged[0])
    with pytest.raises(RuntimeError, match="the record of epoch 2 of this cell was lost"):
        trials.train(2, stops=True)
    assert trials.train(2) == before
    assert trials.ledger.attempts_at(trials.cell.key)[-1]["resumed_after_epoch"] == 2
    assert EPOCHS > 2

"""The journal of a sweep that is not whole: each trial has the state of its cells, and Optuna reads it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.ledger import attempts
from orchestrator.planning.cells import SEARCH, Cell
from orchestrator.reporting.journal import studies_journal
from orchestrator.reporting.results import AT_RUNG, BEGUN, collect
from tests.hand_made_ledger import finish, opened, search_weight, specification, write_sweep

DIGITS = tuple("0123456789")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_failed_paused_and_running_trials_have_their_states(tmp_path: Path) -> None:
    wanted = specification(holdouts=("3",), methods=("rotation",))
    ledger, cells = write_sweep(tmp_path, wanted)

    def begin(cell: Cell, ending: str | None) -> None:
        run = {"aux_weights": {"rotation": search_weight(cell)}, "recipe": {}}
        number = ledger.begin(cell.key, {"run": run, "opened": opened(cell, wanted, DIGITS)})
        if ending is not None:
            ledger.end_attempt(cell.key, number, ending)

    endings = {1: attempts.FAILED, 2: attempts.PAUSED, 3: None}
    searches = [cell for cell in cells.all() if cell.phase == SEARCH]
    for cell in searches:
        if cell.search_index == 0:
            finish(ledger, wanted, cell)
        else:
            begin(cell, endings[cell.search_index or 0])
    results = collect(ledger)
    written = studies_journal(results)
    assert written is not None
    (tmp_path / "journal").write_bytes(written)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    trials = optuna.load_study(study_name="rotation/3", storage=storage).trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]
    assert [trial.datetime_complete is not None for trial in trials] == [True, True, False, False]
    assert [trial.params["lambda.rotation"] for trial in trials] == [search_weight(c) for c in searches]
    states = {cell.search_index: state for cell, state in results.states.items() if cell in searches}
    assert (states[1], states[2], states[3]) == (BEGUN, AT_RUNG, BEGUN)


def test_a_sweep_that_has_begun_no_study_has_no_journal(tmp_path: Path) -> None:
    ledger, _ = write_sweep(tmp_path, specification())
    assert studies_journal(collect(ledger)) is None

"""Pairs of whole commands, started together: the sweep is run once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.specification import read_stored
from tests.mlflow_records import assert_exactly_once
from tests.orchestrator.ledger.conftest import s3, s3_address  # noqa: F401
from tests.sweeps import run

TINY = ["--executor", "inline", "--holdouts", "3", "--seeds", "1", "--methods", "classification"]
RECIPE = ["--set", "epochs=1", "ap_window=1", "train_fraction=0.1"]


def start_together(storage: str, uri: str, rounds: int) -> None:
    """Give a command twice at once, so many times, each time for another sweep."""
    with ThreadPoolExecutor(2) as both:
        for number in range(rounds):
            words = [*TINY, *RECIPE, "--storage", storage, "--tracking-uri", uri, "--name", f"pair{number}"]
            one, other = both.map(lambda words: run(*words), [words, words])
            check_pair(Ledger(storage, f"pair{number}"), uri, [one, other])


def check_pair(ledger: Ledger, uri: str, pair: list) -> None:
    """One command has run the sweep; the other was refused, or came late and found it done."""
    said = [(each.returncode, each.stdout, each.stderr) for each in pair]
    ran = [out for code, out, _ in said if code == 0 and f"Sweep {ledger.name}: 1 cell" in out]
    assert len(ran) == 1, said
    for code, out, err in said:
        if code == 2:
            assert "is being run by" in err
        else:
            assert code == 0, said
            assert out in ran or "1 of 1 cells are done" in out, said
    stored = read_stored(ledger)
    cells = lay_out(stored.specification, stored.fingerprint)
    (cell,) = cells.all()
    assert ledger.attempts(cell.key) == 1
    assert_exactly_once(uri, ledger, stored.specification, cells)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_of_two_commands_one_runs_the_sweep_in_a_folder(tmp_path: Path, rounds: int) -> None:
    start_together(str(tmp_path), f"sqlite:///{tmp_path}/mlflow.db", rounds)


@pytest.mark.slow
def test_of_two_commands_one_runs_the_sweep_in_a_bucket(s3: str, tmp_path: Path) -> None:  # noqa: F811
    start_together(s3, f"sqlite:///{tmp_path}/mlflow.db", 20)

"""A ledger of version 0.1, half finished: its keys and its name still mean the same, and it is resumed.

Commit d7357a7 wrote tests/ledger_of_0_1: both search cells and the two classification cells are done, one
rotation cell had begun and the other had not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import read_stored
from orchestrator.reporting.results import BEGUN, DONE, NOT_BEGUN, collect
from tests.sweeps import ROOT, cells, run

NAME = "digits-71fc1416"
ASKED = Request(holdouts=("3",), seeds=2, lambda_trials=2, assignments=("epochs=2", "ap_window=1"))


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "tests" / "ledger_of_0_1", tmp_path / "runs")
    return tmp_path / "runs"


def test_the_same_request_has_the_same_specification_name_and_keys(storage: Path) -> None:
    stored = read_stored(Ledger(str(storage), NAME))
    asked = draft(ASKED).complete("cpu", stored.classes)
    assert asked == stored.specification
    assert asked.default_name() == NAME
    keys = {cell.label: cell.key for cell in lay_out(asked, stored.fingerprint).all()}
    for folder in (storage / NAME / "cells").iterdir():
        cell = json.loads((folder / "cell.json").read_text())["cell"]
        number = f"s{cell['seed']}" if cell["search_index"] is None else f"search{cell['search_index']}"
        assert keys[f"{cell['method']}/{cell['holdout']}/{number}"] == folder.name == cell["key"]


def test_it_is_reported_as_far_as_it_goes(storage: Path) -> None:
    states = {cell.label: state for cell, state in collect(Ledger(str(storage), NAME)).states.items()}
    unfinished = {"rotation/3/s0": BEGUN, "rotation/3/s1": NOT_BEGUN}
    assert {label: state for label, state in states.items() if state != DONE} == unfinished
    assert len(states) == 6


def test_it_is_resumed_and_nothing_in_it_is_trained_again(storage: Path) -> None:
    before = {path: path.read_bytes() for path in storage.glob("*/cells/*/*") if path.parent.name != "report"}
    done = set(cells(storage / NAME))
    resumed = run("--resume", "--name", NAME, "--storage", storage, "--executor", "inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "4 of 6 cells are done" in resumed.stdout
    after = cells(storage / NAME)
    assert set(after) - done == {"rotation/3/s0", "rotation/3/s1"}
    for path, content in before.items():
        if path.parent.name in {after[label].name for label in done}:
            assert path.read_bytes() == content, path

"""A ledger of version 0.1, half finished: its keys and its name still mean the same, and it is resumed.

Commit d7357a7 wrote tests/ledger_of_0_1: both search cells and the two classification cells are done, one
rotation cell had begun and the other had not.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.provenance import PROJECT, provenance
from orchestrator.planning.cells import lay_out
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import read_stored
from orchestrator.planning.studies import suggest
from orchestrator.planning.sweep import as_begun
from orchestrator.reporting.results import BEGUN, DONE, NOT_BEGUN, collect
from tests.sweeps import ROOT, cells, run

NAME = "digits-71fc1416"
ASKED = Request(holdouts=("3",), seeds=2, lambda_trials=2, assignments=("epochs=2", "ap_window=1"))


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """The ledger, as if version 0.1 had made it with the packages that are installed here."""
    shutil.copytree(ROOT / "tests" / "ledger_of_0_1", tmp_path / "runs")
    here = {name: version for name, version in provenance().versions.items() if name != PROJECT}
    with_versions(tmp_path / "runs", **here)
    return tmp_path / "runs"


def with_versions(storage: Path, **versions: str) -> None:
    file = storage / NAME / "sweep.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "versions": {**values["versions"], **versions}}))


def test_the_same_request_goes_on_with_the_same_specification_name_and_keys(storage: Path) -> None:
    stored = read_stored(Ledger(str(storage), NAME))
    new = draft(ASKED).complete("cpu", stored.classes)
    assert new.default_name() != NAME  # a sweep that begins now has other lambdas
    asked, ledger = as_begun(new, replace(ASKED, storage=str(storage)))
    assert (asked, ledger.name) == (stored.specification, NAME)
    assert asked.default_name() == NAME
    keys = {cell.label: cell.key for cell in lay_out(asked, stored.fingerprint).all()}
    for folder in (storage / NAME / "cells").iterdir():
        cell = json.loads((folder / "cell.json").read_text())["cell"]
        number = f"s{cell['seed']}" if cell["search_index"] is None else f"search{cell['search_index']}"
        assert keys[f"{cell['method']}/{cell['holdout']}/{number}"] == folder.name == cell["key"]


def test_its_studies_ask_for_the_lambdas_that_it_began_with(storage: Path) -> None:
    results = collect(Ledger(str(storage), NAME))
    (selection,) = results.selections
    definition = selection.study.definition
    for place, tried in enumerate(selection.history):
        weight = suggest(definition, selection.history[:place], place).aux_weights["rotation"]
        assert weight == pytest.approx(tried.what.aux_weights["rotation"], rel=1e-9)  # another libm's log


def test_it_is_reported_as_far_as_it_goes(storage: Path) -> None:
    states = {cell.label: state for cell, state in collect(Ledger(str(storage), NAME)).states.items()}
    unfinished = {"rotation/3/s0": BEGUN, "rotation/3/s1": NOT_BEGUN}
    assert {label: state for label, state in states.items() if state != DONE} == unfinished
    assert len(states) == 6


def test_it_is_resumed_and_nothing_in_it_is_trained_again(storage: Path) -> None:
    before = {path: path.read_bytes() for path in storage.glob("*/cells/*/*") if path.parent.name != "report"}
    done = set(cells(storage / NAME))
    words = ["--holdouts", "3", "--seeds", "2", "--lambda-trials", "2", "--set", "epochs=2", "ap_window=1"]
    resumed = run(*words, "--storage", storage, "--executor", "inline")
    assert resumed.returncode == 0, resumed.stderr
    assert f"Going on with sweep {NAME}: 4 of 6 cells are done" in resumed.stdout
    after = cells(storage / NAME)
    assert set(after) - done == {"rotation/3/s0", "rotation/3/s1"}
    for path, content in before.items():
        if path.parent.name in {after[label].name for label in done}:
            assert path.read_bytes() == content, path


def test_it_goes_on_with_another_torch_only_if_that_is_accepted(storage: Path) -> None:
    with_versions(storage, torch="1.0.0", optuna="1.0.0")
    before = {path: path.read_bytes() for path in storage.rglob("*") if path.is_file()}
    words = ["--resume", "--name", NAME, "--storage", storage, "--executor", "inline"]
    refused = run(*words, blocked=True)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "torch 1.0.0, now" in line
    assert "the last places of numbers of the 2 cells left may differ" in line
    assert "optuna" not in line  # both searches are done
    assert {path: path.read_bytes() for path in before} == before
    assert not list(storage.rglob("attempts"))

    accepted = run(*words, "--accept-versions", blocked=True)
    assert accepted.returncode == 0, accepted.stderr
    assert "Other versions than before: torch 1.0.0, now" in accepted.stdout
    report = " ".join(accepted.stdout.split())
    assert "Versions: the sweep went on with others than before: torch 1.0.0, now" in report
    values = json.loads((storage / NAME / "sweep.json").read_text())
    assert values["versions"]["torch"] == "1.0.0"
    assert [each["versions"]["torch"] for each in values["went_on_with"]] == [provenance().versions["torch"]]

    finished = run(*words, blocked=True)
    assert finished.returncode == 0, finished.stderr
    assert json.loads((storage / NAME / "sweep.json").read_text())["went_on_with"] == values["went_on_with"]

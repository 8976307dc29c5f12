"""A network that learned nothing is named, and no healthy one is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.reporting.collapse import collapsed
from orchestrator.reporting.results import collect
from orchestrator.reporting.sentences import nothing_learned
from orchestrator.sweep import main
from tests.hand_made_ledger import finish, specification, write_sweep
from tests.sweeps import ROOT, only_sweep

WORDS = ["--methods", "classification", "--holdouts", "3", "--seeds", "1", "--executor", "inline"]


def test_a_real_network_that_a_learning_rate_of_100_has_ruined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ruined = ["--set", "learning_rate=100", "epochs=2", "ap_window=1", "--storage", str(tmp_path)]
    assert main([*WORDS, *ruined]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "WARNING: 1 final cell learned nothing, so the numbers mean nothing: classification/3/s0" in said
    results = collect(Ledger(str(tmp_path), only_sweep(tmp_path).name))
    assert nothing_learned(results)[0] in said


def test_the_networks_of_a_healthy_sweep_are_not_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "ledger_of_0_1", tmp_path / "runs")
    results = collect(Ledger(str(tmp_path / "runs"), "digits-71fc1416"))
    assert results.finals
    assert collapsed(results) == []


def scored(tmp_path: Path, accuracy: float, answers: list[int], counts: list[int] | None = None) -> list[str]:
    """The signs of collapse in a sweep of one cell with these answers for its test images."""
    wanted = specification(seeds=1, methods=("classification",), holdouts=("3",))
    ledger, cells = write_sweep(tmp_path, wanted)
    if counts:
        ledger.write_sweep({**ledger.read_sweep(), "images": {"test": counts, "train": counts}})
    (cell,) = cells.all()

    logits = np.eye(9, dtype=np.float32)[answers]
    column = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 9)
    scores = pa.table({"index": range(len(answers)), "logits": column})
    finish(ledger, wanted, cell, values={"final/test_accuracy": accuracy}, scores=scores)
    return [each.sign for each in collapsed(collect(ledger))]


def test_one_answer_for_nearly_all_images_is_a_collapse(tmp_path: Path) -> None:
    assert scored(tmp_path, 0.14, [4] * 97 + [5, 6, 7]) == ["one class for 97% of the test images"]


def test_an_accuracy_at_chance_is_one_too(tmp_path: Path) -> None:
    assert scored(tmp_path, 0.11, [*range(9)] * 10) == [
        "accuracy 11.0, where the most frequent class has 11.1%"
    ]


def test_a_weak_network_above_chance_is_none(tmp_path: Path) -> None:
    assert scored(tmp_path, 0.15, [*range(9)] * 10) == []


def test_a_good_network_on_lopsided_classes_is_none(tmp_path: Path) -> None:
    lopsided = [960, *[5] * 9]
    assert scored(tmp_path, 0.985, [0] * 96 + [5, 6, 7, 8], lopsided) == []
    assert scored(tmp_path / "all", 0.96, [0] * 100, lopsided) == ["one class for 100% of the test images"]

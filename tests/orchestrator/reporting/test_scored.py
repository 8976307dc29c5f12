"""Reading the scores of final cells: in the images' order, with what the network takes them for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.planning.cells import SEARCH
from orchestrator.reporting.results import collect
from orchestrator.reporting.scored import label_of, read_scored
from tests.hand_made_ledger import finish, scores_of, specification, write_sweep


def test_scores_are_read_by_seed_in_the_order_of_the_images(tmp_path: Path) -> None:
    wanted = specification(methods=("classification", "edge-energy"), seeds=2)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, scores=scores_of(cell))
    results = collect(ledger)
    found = read_scored(results)
    assert set(found) == {(method, name) for method in wanted.methods for name in ("3", "8")}
    seeds = found["classification", "3"]
    assert [each.cell.seed for each in seeds] == [0, 1]
    assert list(seeds[0].index) == list(range(100))
    # The held-out class "3" is every tenth image; classes 0 to 9 follow one another.
    assert list(np.flatnonzero(seeds[0].is_anomaly)) == list(range(3, 100, 10))
    assert seeds[0].answers is not None
    kept = [label for label in range(100) if label % 10 != 3]
    right = [number % 10 - (number % 10 > 3) for number in kept]
    assert list(seeds[0].answers.classes[kept]) == right
    assert seeds[0].answers.confidence == pytest.approx(1 / (1 + 8 * np.exp(-4)))
    assert found["edge-energy", "3"][0].answers is None
    assert label_of(results, "classification") == "classification (MSP)"
    assert label_of(results, "edge-energy") == "edge-energy"


def test_scores_that_say_too_little_are_left_out(tmp_path: Path) -> None:
    wanted = specification(methods=("classification",), seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    first, second = cells.all()
    finish(ledger, wanted, first, scores=pa.table({"index": [0, 1], "msp": [0.1, 0.2]}))
    finish(ledger, wanted, second, scores=scores_of(second))
    assert all(cell.phase != SEARCH for cell in (first, second))
    assert list(read_scored(collect(ledger))) == [("classification", "8")]

"""What held-out images are taken for: the classes that are named most often, with counts."""

from __future__ import annotations

from pathlib import Path

from orchestrator.reporting.results import collect
from orchestrator.reporting.scored import read_scored
from orchestrator.reporting.taken_for import taken_for_table
from tests.hand_made_ledger import finish, scores_of, specification, write_sweep


def test_answers_are_named_as_kept_classes_and_counted_over_seeds(tmp_path: Path) -> None:
    wanted = specification(methods=("classification", "edge-energy"), seeds=2, holdouts=("3", "9"))
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, scores=scores_of(cell))
    results = collect(ledger)
    table = taken_for_table(results, read_scored(results))
    assert table is not None
    assert [column.title for column in table.columns] == ["held out", "classification"]
    # The network names the kept class after the held-out one; after the last one comes the first.
    assert table.rows == (("3", "4 (20 of 20)"), ("9", "0 (20 of 20)"))
    assert taken_for_table(results, {}) is None

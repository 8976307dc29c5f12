"""The table of detectors: averages over the held-out classes of every detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.planning.cells import Cell
from orchestrator.reporting.detector_table import detector_tables
from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.statistics import Estimate
from tests.hand_made_ledger import finish, specification, write_sweep

DETECTORS = {
    "msp": {"label": "MSP", "windowed": True},
    "odin": {"label": "ODIN", "windowed": True},
    "vim": {"label": "ViM", "windowed": False},
}


def value(cell: Cell, number: int) -> float:
    """A value that differs by holdout, seed and what it is of."""
    return 0.3 + 0.05 * number + 0.01 * int(cell.holdout) + 0.002 * cell.seed**2


def values(cell: Cell) -> dict[str, float]:
    found = {}
    for number, (name, column) in enumerate(DETECTORS.items()):
        found[f"final/ap_{name}_last"] = value(cell, number)
        if column["windowed"]:
            found[f"final/ap_{name}"] = value(cell, number + 3)
        found[f"final/auroc_{name}"] = value(cell, number + 6)
        found[f"final/fpr95_{name}"] = value(cell, number + 9)
    return found


def swept(storage: Path, methods: tuple[str, ...], detectors: tuple[str, ...] = tuple(DETECTORS)) -> Results:
    wanted = specification(methods=methods, aux_weight=("0.4",) if "rotation" in methods else ())
    ledger, cells = write_sweep(storage, wanted)
    stored = ledger.read_sweep()
    columns = {name: DETECTORS[name] for name in detectors}
    ledger.write_sweep({**stored, "conduct": {"detectors": list(detectors)}, "detectors": columns})
    for cell in cells.all():
        finish(ledger, wanted, cell, values=values(cell) if cell.method != "edge-energy" else None)
    return collect(ledger)


def test_rows_are_detectors_and_entries_averages_over_classes_and_seeds(tmp_path: Path) -> None:
    (table,) = detector_tables(swept(tmp_path, ("classification", "edge-energy")))
    assert [column.title for column in table.columns] == ["detector", "AP", "AUROC", "FPR95"]
    assert [row[0] for row in table.rows] == ["MSP", "ODIN", "ViM (last)"]
    for number, row in enumerate(table.rows):
        taken = (number + 3 if number < 2 else number, number + 6, number + 9)
        for entry, place in zip(row[1:], taken, strict=True):
            by_seed = [0.3 + 0.05 * place + 0.01 * (3 + 8) / 2 + 0.002 * seed**2 for seed in range(3)]
            assert isinstance(entry, Estimate)
            assert entry.mean == pytest.approx(np.mean(by_seed))
            assert entry.std == pytest.approx(np.std(by_seed, ddof=1))
    assert "averages over 2 held-out classes" in table.caption


def test_many_methods_have_a_table_each(tmp_path: Path) -> None:
    tables = detector_tables(swept(tmp_path, ("classification", "rotation", "center-mask")))
    assert [table.columns[1].group for table in tables] == ["classification", "rotation", "center-mask"]
    assert len({table.label for table in tables}) == 3


def test_two_detectors_are_in_the_main_table_alone(tmp_path: Path) -> None:
    assert detector_tables(swept(tmp_path, ("classification",), ("msp", "odin"))) == []
    assert json.loads((tmp_path / "mine" / "sweep.json").read_text())["detectors"].keys() == {"msp", "odin"}

"""The table of image sets: means over holdouts, then over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.planning.cells import Cell
from orchestrator.reporting.image_set_table import image_set_tables, wide_image_set_table
from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.statistics import Estimate
from tests.hand_made_ledger import finish, specification, write_sweep


def beside(cell: Cell, detectors: tuple[str, ...]) -> dict[str, float]:
    """Values of a cell's image set, different for every holdout, seed and detector."""
    found = {"ood/mine/skew": 0.25 + 0.01 * int(cell.holdout)}
    for number, name in enumerate(detectors):
        found[f"ood/mine/ap_{name}"] = 0.4 + 0.1 * number + 0.002 * int(cell.holdout) * (1 + cell.seed**2)
    return found


def swept(storage: Path, *methods: str, without: str = "") -> Results:
    wanted = specification(methods=methods, aux_weight=("0.4",) if "rotation" in methods else ())
    ledger, cells = write_sweep(storage, wanted)
    for cell in cells.all():
        own = ("msp", "odin") if cell.method in ("classification", "rotation") else (cell.method,)
        values = None if cell.label == without else beside(cell, own)
        finish(ledger, wanted, cell, values=values)
    return collect(ledger)


def test_entries_are_means_over_holdouts_and_estimates_over_seeds(tmp_path: Path) -> None:
    (table,) = image_set_tables(swept(tmp_path, "classification", "pixel-gaussian"))
    assert [column.name for column in table.columns] == [
        "image_set",
        "random_ap",
        "classification_ap_msp",
        "classification_ap_odin",
        "pixel-gaussian_ap_pixel-gaussian",
    ]
    ((name, skew, msp, odin, own),) = table.rows
    assert (name, skew) == ("mine", pytest.approx(0.25 + 0.055))
    by_seed = np.array([0.4 + 0.002 * 5.5 * (1 + seed**2) for seed in range(3)])
    for found, more in ((msp, 0.0), (odin, 0.1)):
        assert isinstance(found, Estimate)
        assert (found.mean, found.std) == (
            pytest.approx(by_seed.mean() + more),
            pytest.approx(by_seed.std(ddof=1)),
        )
    assert own == pytest.approx(by_seed[0])
    assert "mean over the 2 holdouts" in table.caption


def test_a_seed_without_every_holdout_does_not_count(tmp_path: Path) -> None:
    (table,) = image_set_tables(swept(tmp_path, "classification", without="classification/8/s1"))
    msp = table.rows[0][2]
    assert isinstance(msp, Estimate)
    assert msp.n == 2


def test_a_wide_table_is_one_per_method_but_whole_in_files(tmp_path: Path) -> None:
    methods = ("classification", "rotation", "pixel-gaussian", "edge-energy", "center-mask")
    results = swept(tmp_path, *methods)
    tables = image_set_tables(results)
    assert [table.label for table in tables] == [f"tab:mine-image-sets-{method}" for method in methods]
    columns = [column.name for table in tables for column in table.columns[2:]]
    assert columns == [column.name for column in wide_image_set_table(results).columns[2:]]


def test_without_image_sets_there_is_no_table(tmp_path: Path) -> None:
    wanted = specification(methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell)
    assert image_set_tables(collect(ledger)) == []

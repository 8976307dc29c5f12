"""A report of sweeps written by hand: its numbers and its files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from orchestrator.reporting.report import make_report
from tests.hand_made_ledger import finish_all, specification, write_sweep


def test_a_complete_sweep_s_table_is_its_cells_arithmetic(tmp_path: Path) -> None:
    wanted = specification()
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    report = make_report(ledger)
    # Seeds 0, 1, 2 give 30, 31, 32 percent (35, 36, 37 with rotation): mean 31 (36), deviation 1.
    (row,) = [line.split() for line in report.text.splitlines() if line.startswith("average  ")]
    assert row[2:5] == ["31.00", "±", "1.00"]
    assert "36.00" in row
    assert report.sound
    assert not report.missing
    metrics = report.summary_metrics()
    assert metrics["mean/classification/ap_msp"] == pytest.approx(0.31)
    assert metrics["std/rotation/ap_odin"] == pytest.approx(0.01)
    assert metrics["mean/rotation/test_accuracy"] == pytest.approx(0.96)


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    contents = make_report(ledger).write()
    files = {path.name: path for path in (tmp_path / "mine" / "report").iterdir()}
    assert {name: path.read_bytes() for name, path in files.items()} == contents
    assert {"table.md", "table.tex", "table.csv", "cells.csv"} <= files.keys()
    with files["cells.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["state"] for row in rows} == {"done"}
    assert {float(row["ap_msp"]) for row in rows if row["method"] == "rotation"} == {0.35}
    assert [path for name, path in files.items() if name.endswith(".png")]

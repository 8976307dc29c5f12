"""A report of sweeps written by hand: its numbers and its files."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.ledger.attempts import FAILED, Usage
from orchestrator.planning.request import Request
from orchestrator.reporting.report import make_report
from tests.hand_made_ledger import finish, finish_all, opened, specification, write_sweep


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
    assert report.summary().results == (
        "AP-MSP: classification 31.00%, rotation 36.00%; AP-ODIN: classification 36.00%, rotation 41.00%; "
        "accuracy: classification 91.00%, rotation 96.00%"
    )


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


def test_the_cost_is_in_text_markdown_csv_and_metrics_with_what_was_lost(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    first, second = cells.all()
    usage = Usage(cpus=4.0, gpus=2.0)
    about = {"cell": dataclasses.asdict(first), "opened": opened(first, wanted, tuple("0123456789"))}
    ledger.end_attempt(first.key, ledger.begin(first.key, about, usage=usage), FAILED, "it died")
    (record,) = ledger.read_attempts([first.key])[first.key]
    hours = 2 * (record["ended"] - record["started"]) / 3600
    for cell in (first, second):
        finish(ledger, wanted, cell)  # which takes no time, as it is written
    report = make_report(ledger, Request(storage=str(tmp_path), price_per_gpu_hour=1e6))
    text = " ".join(report.text.split())
    assert f"GPU-hours in 3 attempts, which is {1e6 * hours:,.2f} at 1e+06 a GPU-hour" in text
    assert "(100.0%) were lost: the time of attempts that did not end well" in text
    assert report.cost.sentence in report.markdown()
    *rows, total = csv.DictReader(io.StringIO(report.files["cost.csv"].decode()))
    assert [(row["phase"], row["method"], row["attempts"]) for row in rows] == [
        ("final", "classification", "3")
    ]
    assert float(total["gpu_hours"]) == pytest.approx(hours) == float(total["lost_gpu_hours"])
    assert float(total["money"]) == pytest.approx(1e6 * hours)
    metrics = report.summary_metrics()
    assert metrics["cost/gpu_hours"] == pytest.approx(hours)
    assert metrics["cost/attempts"] == 3


def test_costs_of_version_0_1_are_at_least_what_its_results_say(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    for records in (tmp_path / "mine" / "cells").glob("*/attempts"):
        shutil.rmtree(records)
    report = make_report(ledger)
    assert report.cost.spending.cpu_seconds == 2 * 1.5
    assert "Cost: at least 0.000833 CPU-hours in 2 attempts" in report.text
    assert "2 attempts left no record" in " ".join(report.text.split())
    assert not [name for name in report.summary_metrics() if name.startswith("cost/")]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_fit_an_article_of_two_columns(tmp_path: Path) -> None:
    wanted = specification(methods=("classification", "rotation", "center-mask"), aux_weight=("0.5",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    latex = make_report(ledger).latex()
    (tmp_path / "table.tex").write_text(latex, encoding="utf-8")
    (tmp_path / "article.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}"
        r"\begin{document}Tables. \input{table.tex}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
    captions = re.findall(r"\\contentsline \{table\}", (tmp_path / "article.aux").read_text())
    assert len(captions) == latex.count(r"\begin{table*}") > 1

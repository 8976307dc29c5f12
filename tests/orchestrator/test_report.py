"""The report command on sweeps written by hand: what it prints and its exit codes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.storage import StorageAway
from orchestrator.report import main
from tests.hand_made_ledger import finish, finish_all, opened, specification, write_sweep
from tests.sweeps import run


def test_missing_cells_are_named_with_the_command_that_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish(ledger, wanted, cells.all()[0])
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 cells done" in out
    assert "classification/8/s0" in out
    assert f"-m orchestrator.sweep --resume --name mine --storage {tmp_path}" in out


def test_a_breach_of_the_firewall_is_reported_first_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        access_log = opened(cell, wanted, tuple("0123456789"))
        if cell.label == "rotation/3/search0":
            access_log.append({"split": "test", "classes": ["3"], "count": 1, "digest": "x"})
        finish(ledger, wanted, cell, access_log=access_log)
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.index("LEAK FIREWALL BROKEN") < out.index("AP-MSP")
    assert "rotation/3/search0" in out


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gone", "--storage", str(tmp_path)]) == 2
    assert "no sweep 'gone'" in capsys.readouterr().err
    assert main(["--storage", str(tmp_path)]) == 2
    assert "name" in capsys.readouterr().err.lower()


def test_the_command_needs_neither_torch_nor_mlflow_nor_ray(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    done = run("mine", "--storage", tmp_path, module="orchestrator.report", blocked=True)
    assert done.returncode == 0, done.stderr
    assert "average" in done.stdout


def test_a_storage_that_goes_away_costs_the_files_and_not_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)

    def away(*_: object) -> None:
        raise StorageAway(5, "Input/output error")

    monkeypatch.setattr("orchestrator.reporting.report.draw_figures", away)
    assert main(["mine", "--storage", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "average" in printed.out
    assert "The report's files were not written" in printed.err


def files_of(storage: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (storage / "mine" / "report").iterdir()}


def edit(storage: Path, change: Callable[[dict], None]) -> None:
    ledger = Ledger(str(storage), "mine")
    values = ledger.read_sweep()
    change(values)
    ledger.write_sweep(values)


def test_a_report_on_other_cells_does_not_take_the_place_of_the_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=2, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    assert main(["mine", "--storage", str(tmp_path)]) == 0
    before = files_of(tmp_path)
    capsys.readouterr()
    edit(tmp_path, lambda values: values.update(fingerprint="0" * 16))
    assert main(["mine", "--storage", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "which has 4, is of the sweep that its sweep.json describes" in printed.err
    assert "fingerprint is not what it was" in printed.err
    assert files_of(tmp_path) == before


def test_a_report_that_leaves_cells_out_says_so_and_keeps_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=2, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    assert main(["mine", "--storage", str(tmp_path)]) == 0
    before = files_of(tmp_path)
    edit(tmp_path, lambda values: values["specification"].update(seeds=1))
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "WARNING: left out, since they are none of the sweep that sweep.json describes: 2 cells" in said
    assert "Tables and figures were not written, since they would leave out cells" in said
    assert files_of(tmp_path) == before


def test_an_empty_report_keeps_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    assert main(["mine", "--storage", str(tmp_path)]) == 0
    before = files_of(tmp_path)
    shutil.rmtree(tmp_path / "mine" / "cells")
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    assert "were not written, since no cell is done" in capsys.readouterr().out
    assert files_of(tmp_path) == before

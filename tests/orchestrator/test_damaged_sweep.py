"""A sweep whose files were damaged: the report says it, and going on makes them again as they were."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.report import main as report
from orchestrator.sweep import main as sweep
from tests.sweeps import assert_equal_sweeps, cells

WORDS = ["digits", "--holdouts", "3", "--seeds", "1", "--aux-weight", "0.5", "--executor", "inline"]
WORDS += ["--name", "mine", "--set", "epochs=2", "ap_window=1"]
ROTATION, PLAIN = "rotation/3/s0", "classification/3/s0"


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)


@pytest.fixture(scope="module")
def swept_once(_own_home: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert sweep([*WORDS, "--storage", str(storage)]) == 0
    monkeypatch.undo()
    return storage


@pytest.fixture
def storage(swept_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept_once, tmp_path / "runs")
    return tmp_path / "runs"


def resume(storage: Path, *words: str) -> int:
    return sweep([*words, "--resume", "--name", "mine", "--executor", "inline", "--storage", str(storage)])


def test_an_edited_result_and_an_empty_log_are_reported_and_made_again(
    storage: Path, swept_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = cells(storage / "mine")
    edited, emptied = done[ROTATION] / "result.json", done[PLAIN] / "cell.json"
    content = json.loads(edited.read_text())
    content["values"]["final/ap_msp"] = 0.999
    edited.write_text(json.dumps(content))
    emptied.write_text("")
    assert report(["mine", "--storage", str(storage)]) == 1
    said = capsys.readouterr().out
    assert "99.9" not in said
    assert "LEAK FIREWALL BROKEN" not in said
    flat = " ".join(said.split())
    assert f"cells/{edited.parent.name}/result.json does not have the digest that it states" in flat
    assert f"cells/{emptied.parent.name}/cell.json is empty" in flat
    assert "--resume --name mine" in flat
    assert resume(storage) == 0
    said = capsys.readouterr().out
    assert said.count("Damaged: ") == 2
    assert "0 of 2 cells are done" in said
    assert_equal_sweeps(storage / "mine", swept_once / "mine")
    moved = {path.name for path in (storage / "mine" / "damaged").rglob("*.1")}
    assert moved == {"result.json.1", "cell.json.1"}


def test_a_damaged_sweep_json_is_written_again_by_the_whole_command_line_alone(
    storage: Path, swept_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = storage / "mine" / "sweep.json"
    file.write_text(file.read_text().replace('"seeds": 1', '"seeds": 2'))
    assert resume(storage) == 2
    assert (
        "sweep.json does not have the digest that it states: give the sweep's whole command line again"
        in (capsys.readouterr().err)
    )
    assert report(["mine", "--storage", str(storage)]) == 2
    assert sweep([*WORDS, "--storage", str(storage)]) == 0
    said = capsys.readouterr().out
    assert "Damaged: sweep.json does not have the digest" in said
    assert "2 of 2 cells are done" in said
    assert_equal_sweeps(storage / "mine", swept_once / "mine")
    assert resume(storage) == 0


def test_a_foreign_file_beside_the_checkpoints_stops_nothing(storage: Path, swept_once: Path) -> None:
    cell = cells(storage / "mine")[ROTATION]
    (cell / "result.json").unlink()
    (cell / "checkpoint").mkdir()
    for name in ("notes.pt", "1-x.pt", ".DS_Store", "1-1.pt.swp"):
        (cell / "checkpoint" / name).write_text("not ours")
    assert resume(storage) == 0
    assert_equal_sweeps(storage / "mine", swept_once / "mine")

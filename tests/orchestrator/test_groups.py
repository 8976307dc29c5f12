"""A sweep whose images are in groups, as a person runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.sweep import main
from tests.sweeps import cells
from tests.trainables.data.test_grouping import PATTERN, write_patients


def test_groups_are_part_of_what_a_sweep_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    write_patients(tmp_path / "images")
    settings = ("epochs=1", "ap_window=1", "image_size=8", "depth=10", "width=1")
    words = ["image-folder", "--data", str(tmp_path / "images"), "--storage", str(tmp_path / "runs")]
    words += ["--methods", "rotation", "--seeds", "1", "--holdouts", "bee", "--lambda-trials", "1"]
    words += ["--executor", "inline", "--name", "mine", "--set", *settings]
    assert main([*words, "--groups", PATTERN]) == 0
    kept = json.loads((tmp_path / "runs" / "mine" / "sweep.json").read_text())
    assert kept["specification"]["grouped_by"] == PATTERN
    final = cells(tmp_path / "runs" / "mine")["rotation/bee/s0"]
    files = pq.read_table(final / "scores.parquet")["file"].to_pylist()
    tested = {Path(file).name.split("_")[0] for file in files}
    assert len(files) == 4 * len({(Path(file).parent, Path(file).name.split("_")[0]) for file in files})
    assert len({path.name for path in (tmp_path / "images").rglob("*_0.png")}) > len(tested)
    capsys.readouterr()
    assert main(words) == 2
    assert f"exists with another specification: grouped_by {PATTERN} (asked: None)" in capsys.readouterr().err
    assert main([*words, "--groups", "("]) == 2
    assert "'(' is no regular expression" in capsys.readouterr().err

"""Sweeps of the methods that other tests of the command leave out: CPC and center-mask."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.reporting.paper import published
from orchestrator.sweep import main
from tests.images import write_folder

INLINE = ["--executor", "inline", "--gpus-per-worker", "0", "--name", "mine"]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "runs"


def test_rotation_and_cpc_are_trained_together_with_a_weight_each(storage: Path, tmp_path: Path) -> None:
    counts = {"train": {"ant": 6, "bee": 6, "cow": 6}, "test": {"ant": 2, "bee": 2, "cow": 2}}
    write_folder(tmp_path / "images", counts, side=56)
    words = ["image-folder", "--data", str(tmp_path / "images"), "--holdouts", "cow", "--seeds", "1"]
    words += ["--methods", "classification", "rotation+cpc", "--aux-weight", "rotation=0.25", "cpc=10"]
    words += ["--set", "image_size=56", "stored_size=56", "depth=12", "width=1", "cpc_channels=16"]
    words += ["batch_size=4", "cpc_batch_size=2", "epochs=2", "ap_window=1", "crop_padding=0"]
    assert main([*words, *INLINE, "--storage", str(storage)]) == 0
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = {run.info.run_name: run for run in client.search_runs(experiments)}
    assert set(runs) == {"classification/cow/s0", "rotation+cpc/cow/s0", "mine"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    data = runs["rotation+cpc/cow/s0"].data
    assert float(data.params["aux_weight.rotation"]) == 0.25
    assert float(data.params["aux_weight.cpc"]) == 10
    assert {"aux/rotation_loss", "aux/cpc_loss", "final/ap_msp"} <= data.metrics.keys()


def test_the_methods_of_the_paper_s_table_7_are_compared_by_one_command(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["classification", "rotation", "center-mask"]
    assert set(methods) == {each.method for each in published() if each.table == "7"}
    words = ["digits", "--methods", *methods, "--holdouts", "3", "8", "--seeds", "1", "--lambda-trials", "1"]
    words += ["--set", "epochs=1", "ap_window=1"]
    assert main([*words, *INLINE, "--storage", str(storage)]) == 0
    printed = capsys.readouterr().out
    assert "8 of 8 cells done" in printed  # for each held-out class three methods and one search cell
    with (storage / "mine" / "report" / "cells.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert {cell["state"] for cell in cells} == {"done"}
    assert [line for line in printed.splitlines() if all(f" {method} " in line for method in methods)]
    (average,) = [line.split()[1:] for line in printed.splitlines() if line.startswith("average ")]
    for number, method in enumerate(methods):
        values = [100 * float(cell["ap_msp"]) for cell in cells if cell["method"] == method]
        assert len(values) == 2
        assert float(average[1 + 3 * number]) == pytest.approx(sum(values) / 2, abs=0.0051)

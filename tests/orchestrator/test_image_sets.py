"""Image sets that a sweep scores beside the test images, with trained methods and through its resumption."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from orchestrator.sweep import main
from tests.images import noise
from tests.sweeps import cells

DETECTORS = ("msp", "odin", "knn")
WORDS = ["--methods", "classification", "edge-energy", "--holdouts", "3", "none", "--executor", "inline"]
SMALL = ["--set", "epochs=2", "ap_window=1", "--detectors", *DETECTORS]


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records in MLflow are not what this is about."""
    monkeypatch.setitem(sys.modules, "mlflow", None)


def sweep(storage: Path, *words: object, seeds: int = 1) -> int:
    where = ["--storage", str(storage), "--name", "mine", "--seeds", str(seeds)]
    return main([*WORDS, *SMALL, *where, *map(str, words)])


def folder(path: Path, side: int = 8, start: int = 0) -> Path:
    path.mkdir()
    for seed in range(24):
        Image.fromarray(noise(start + seed, side)).save(path / f"{seed:02}.png")
    return path


def values(cell: Path) -> dict[str, float]:
    return json.loads((cell / "result.json").read_text())["values"]


def test_every_final_cell_scores_the_sets_as_the_files_beside_it_say(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    sets = [f"noise={folder(tmp_path / 'noise')}", f"other={folder(tmp_path / 'other', 12, 50)}"]
    assert sweep(storage, "--ood", sets[0], "--ood", sets[1], "--ood-resize", "box") == 0
    done = cells(storage / "mine")
    assert len(done) == 4
    for label, cell in done.items():
        detectors = ("edge-energy",) if label.startswith("edge") else DETECTORS
        normal = pq.read_table(cell / "scores.parquet").to_pandas()
        normal = normal[~normal["is_anomaly"]]
        for name in ("noise", "other"):
            scores = pq.read_table(cell / "ood" / f"{name}.parquet").to_pandas()
            logits = [] if label.startswith("edge") else ["logits"]
            assert list(scores) == ["index", *logits, *detectors]
            is_anomaly = np.repeat([0, 1], [len(normal), len(scores)])
            for detector in detectors:
                both = np.concatenate([normal[detector], scores[detector]])
                ap, auc = average_precision_score(is_anomaly, both), roc_auc_score(is_anomaly, both)
                assert values(cell)[f"ood/{name}/ap_{detector}"] == pytest.approx(ap, abs=1e-12)
                assert values(cell)[f"ood/{name}/auroc_{detector}"] == pytest.approx(auc, abs=1e-12)
            assert values(cell)[f"ood/{name}/skew"] == pytest.approx(24 / len(is_anomaly))
        opened = json.loads((cell / "cell.json").read_text())["opened"]
        assert [entry["split"] for entry in opened] == ["train", "test", "ood/noise", "ood/other"]
    with (storage / "mine" / "report" / "image-sets.csv").open(newline="") as file:
        rows = {row["image_set"]: row for row in csv.DictReader(file)}
    both = [values(done[f"classification/{holdout}/s0"])["ood/other/ap_knn"] for holdout in ("3", "none")]
    assert float(rows["other"]["classification_ap_knn_mean"]) == pytest.approx(np.mean(both))
    with (storage / "mine" / "report" / "cells.csv").open(newline="") as file:
        table = {row["key"]: row for row in csv.DictReader(file)}
    for cell in done.values():
        for metric, value in values(cell).items():
            if metric.startswith("ood/"):
                assert float(table[cell.name][metric]) == value


def test_a_set_changes_no_cell_and_those_that_are_done_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, images = tmp_path / "runs", folder(tmp_path / "noise")
    assert sweep(storage) == 0
    before = {label: (cell / "result.json").read_bytes() for label, cell in cells(storage / "mine").items()}
    assert sweep(storage, "--ood", f"noise={images}") == 0
    assert {label: (c / "result.json").read_bytes() for label, c in cells(storage / "mine").items()} == before
    assert "Image set noise: no scores of it by 4 of 4 finished final cells" in capsys.readouterr().out
    assert sweep(storage, seeds=2) == 0  # which scores the set that was asked for last
    done = cells(storage / "mine")
    lacking = {label for label, cell in done.items() if not (cell / "ood" / "noise.parquet").exists()}
    assert lacking == before.keys()
    assert len(done) == 6
    assert "Image set noise: no scores of it by 4 of 6 finished final cells" in capsys.readouterr().out
    other = tmp_path / "other"
    assert sweep(storage, "--ood", f"noise={folder(other, start=90)}", seeds=3) == 2
    assert "has other images, or another resize, than when the sweep first" in capsys.readouterr().err
    assert sweep(storage, "--ood", f"other={other}", seeds=3) == 0
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ood", "noise"], "--ood takes NAME=PATH"),
        (["--ood", "Noise=IMAGES"], "small letters"),
        (["--ood", "a=IMAGES", "a=IMAGES"], "names 'a' twice"),
        (["--ood", "a=IMAGES/nowhere"], "does not exist"),
        (["--ood", "a=IMAGES"], "is 12x12 where 8x8 is needed"),
        (["--ood", "a=IMAGES", "--ood-resize", "crop", "--crops-per-image", "0"], "from 1 to"),
    ],
)
def test_mistakes_are_said_before_any_cell_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    images = folder(tmp_path / "images", 12)
    assert sweep(tmp_path / "runs", *(word.replace("IMAGES", str(images)) for word in words)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs" / "mine" / "cells").exists()

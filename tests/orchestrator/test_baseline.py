"""The baseline command: end to end on digits, and on real images if there are any."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from scipy.ndimage import sobel
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from orchestrator.baseline import main
from orchestrator.baselines.table import baseline_table
from orchestrator.baselines.targets import OOD, Baseline, Target
from tests.images import noise, write_folder
from tests.sweeps import ROOT
from trainables.data.image_sets import load_images

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BY_CLASS = [7.68, 18.87, 8.04, 8.89, 7.94, 8.28, 16.84, 12.84, 7.33, 14.94]
"""AP in percent of an independent implementation, by CIFAR-10's held-out classes."""


class Runs:
    """A storage folder, the command that writes to it, and its contents."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.uri = f"sqlite:///{storage}/mlflow.db"

    def run(self, *words: str, name: str = "mine") -> int:
        return main([*words, "--storage", str(self.storage), "--tracking-uri", self.uri, "--name", name])

    def table(self, name: str = "mine") -> dict[str, dict[str, str]]:
        """Return the rows of table.csv by their first column."""
        with (self.storage / name / "report" / "table.csv").open(newline="") as file:
            return {next(iter(row.values())): row for row in csv.DictReader(file)}

    def percent(self, row: str, name: str = "mine") -> float:
        return 100 * float(self.table(name)[row]["ap"])

    def cells(self, name: str = "mine") -> dict[str, Path]:
        """Return the folders of scores by target."""
        stored = json.loads((self.storage / name / "baseline.json").read_text())
        return {p["name"]: self.storage / name / "cells" / p["key"] for p in stored["places"]}

    def tracked(self, benchmark: str = "digits") -> list[Run]:
        client = MlflowClient(self.uri)
        return client.search_runs([client.get_experiment_by_name(benchmark).experiment_id])


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs, which takes longer to create than most tests take."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def runs(tmp_path: Path, empty_database: Path) -> Runs:
    storage = tmp_path / "runs"
    storage.mkdir()
    shutil.copy(empty_database, storage)
    return Runs(storage)


def test_every_class_of_digits_is_scored_reported_and_recorded(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.run("edge-energy", "digits") == 0
    printed = capsys.readouterr().out
    table = runs.table()
    assert list(table) == [*"0123456789", "average"]
    for name, folder in runs.cells().items():
        scores = pq.read_table(folder / "scores.parquet").to_pandas()
        targets = load_digits().target
        assert scores["is_anomaly"].sum() == (scores["label"] == -1).sum() < (targets == int(name)).sum()
        assert sorted(scores["index"]) == list(range(len(scores)))
        expected = average_precision_score(scores["is_anomaly"], scores["score"])
        assert float(table[name]["ap"]) == pytest.approx(expected, rel=1e-9)
        assert float(table[name]["random_ap"]) == pytest.approx(scores["is_anomaly"].mean(), rel=1e-9)
        assert f"{100 * expected:.2f}" in printed
    mean = np.mean([float(table[name]["ap"]) for name in "0123456789"])
    assert float(table["average"]["ap"]) == pytest.approx(mean)
    assert {path.name for path in (runs.storage / "mine" / "report").iterdir()} == {
        "table.md",
        "table.tex",
        "table.csv",
    }
    recorded = {run.info.run_name: run for run in runs.tracked()}
    assert set(recorded) == {f"edge-energy/{name}" for name in "0123456789"}
    three = recorded["edge-energy/3"]
    assert three.info.status == "FINISHED"
    assert {k: v for k, v in three.data.tags.items() if not k.startswith("mlflow.")} == {
        "kind": "baseline",
        "sweep": "mine",
        "ledger": (runs.storage / "mine" / "identity").read_text(),
        "cell": runs.cells()["3"].name,
    }
    assert three.data.params == {
        "benchmark": "digits",
        "method": "edge-energy",
        "holdout": "3",
        "resize": "none",
        "image_size": "8",
    }
    assert three.data.metrics["final/ap"] == pytest.approx(float(table["3"]["ap"]))
    assert three.data.metrics["final/skew"] == pytest.approx(float(table["3"]["random_ap"]))


def test_a_baseline_grows_and_computes_and_records_nothing_twice(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "7", "2") == 0
    before = {name: (folder / "result.json").read_text() for name, folder in runs.cells().items()}
    assert list(runs.table()) == ["2", "7", "average"]
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "7") == 0
    assert "is scored already" in capsys.readouterr().out
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "5", "7") == 0
    assert list(runs.table()) == ["2", "5", "7", "average"]
    after = {name: (folder / "result.json").read_text() for name, folder in runs.cells().items()}
    assert {name: after[name] for name in before} == before
    found = runs.tracked()
    assert sorted(run.info.run_name for run in found) == [f"pixel-gaussian/{name}" for name in "257"]
    client = MlflowClient(runs.uri)
    for run in found:
        assert len(client.get_metric_history(run.info.run_id, "final/ap")) == 1


def test_a_result_that_was_damaged_is_scored_again(runs: Runs) -> None:
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    path = runs.cells()["1"] / "scores.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    assert path.read_bytes() == good


def test_image_sets_are_scored_against_all_test_images(runs: Runs, tmp_path: Path) -> None:
    for folder, side in (("small", 8), ("large", 20)):
        (tmp_path / folder).mkdir()
        for seed in range(30):
            Image.fromarray(noise(seed, side)).save(tmp_path / folder / f"{seed}.png")
    assert runs.run("pixel-gaussian", "--ood", f"noise={tmp_path / 'small'}") == 0
    crops = ("--ood-resize", "crop", "--crops-per-image", "4", "--seed", "3")
    assert runs.run("pixel-gaussian", "--ood", f"pieces={tmp_path / 'large'}", *crops) == 0
    table = runs.table()
    assert {name: (row["images"], row["resize"]) for name, row in table.items()} == {
        "noise": ("30", "as they are"),
        "pieces": ("120", "4 random crops each, seed 3"),
    }
    scores = pq.read_table(runs.cells()["pieces"] / "scores.parquet").to_pandas()
    own = scores[~scores["is_anomaly"]]
    assert len(scores) == len(own) + 120
    assert float(table["pieces"]["random_ap"]) == pytest.approx(120 / len(scores))
    assert float(table["pieces"]["ap"]) > 0.99  # noise is no digit
    recorded = {run.info.run_name: run.data.params for run in runs.tracked()}
    assert recorded["pixel-gaussian/pieces"] == {
        "benchmark": "digits",
        "method": "pixel-gaussian",
        "holdout": "none",
        "ood": "pieces",
        "resize": "crop",
        "crops_per_image": "4",
        "seed": "3",
        "image_size": "8",
    }
    # The same name for other images is refused, and leaves what there is alone.
    assert runs.run("pixel-gaussian", "--ood", f"noise={tmp_path / 'large'}", "--ood-resize", "box") == 2
    assert runs.table() == table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pixel-gauss"], "Method: invalid choice"),
        (["edge-energy", "didgits"], "Did you mean 'digits'?"),
        (["edge-energy", "--holdouts", "ten"], "There is no class to hold out 'ten'"),
        (["edge-energy", "--holdouts", "none"], "--holdouts none leaves nothing to detect"),
        (["edge-energy", "--holdouts", "1", "--ood", "a=."], "two settings"),
        (["edge-energy", "--ood", "lsun"], "--ood takes NAME=PATH"),
        (["edge-energy", "--ood", "a=nowhere"], "nowhere does not exist"),
        (["edge-energy", "--ood", "a=.", "a=."], "names 'a' twice"),
        (["edge-energy", "--ood-resize", "box"], "no use without image sets"),
        (["edge-energy", "--ood", "a=.", "--crops-per-image", "2"], "no use without --ood-resize crop"),
        (["edge-energy", "--seed", "-1"], "whole number from 0 to"),
        (["edge-energy", "--set", "epochs=3"], "--set takes image_size and skip_bad_images, not epochs"),
        (["pixel-gaussian", "cifar10", "--set", "image_size=224"], "19 GiB per matrix"),
        (["edge-energy", "cifar10", "--data", "nowhere"], "--data"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    runs: Runs, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert runs.run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (runs.storage / "mine").exists()


def test_a_class_called_none_is_a_mistake_before_any_work(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = {"one": 2, "none": 2, "two": 2}
    write_folder(tmp_path / "few", {"train": few, "test": few})
    words = ["image-folder", "--data", str(tmp_path / "few"), "--set", "image_size=8"]
    assert runs.run("edge-energy", *words) == 2
    assert "has a class 'none'" in capsys.readouterr().err
    assert not (runs.storage / "mine").exists()


def test_a_tracking_uri_whose_driver_is_missing_is_a_mistake_unlike_a_missing_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "postgresql+psycopg://u:p@127.0.0.1:1/x"
    words = ["edge-energy", "--storage", str(tmp_path), "--name", "mine", "--tracking-uri", uri]
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert main(words) == 2
    assert f"{uri} needs the Python module psycopg" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "baseline.json").exists()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(words) == 0
    assert "MLflow is not installed here" in capsys.readouterr().out
    assert (tmp_path / "mine" / "report" / "table.csv").exists()


def test_a_name_belongs_to_one_baseline(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    assert runs.run("pixel-gaussian", "--holdouts", "1") == 2
    assert "method edge-energy (asked: pixel-gaussian)" in capsys.readouterr().err
    (runs.storage / "swept").mkdir()
    (runs.storage / "swept" / "sweep.json").write_text("{}")
    assert runs.run("edge-energy", name="swept") == 2
    assert "is the name of a sweep" in capsys.readouterr().err
    (runs.storage / "mine" / "baseline.json").write_text("{")
    assert runs.run("edge-energy") == 2
    assert "is no baseline of this version" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_mlflow() -> None:
    code = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'mlflow', 'ray', 'sklearn']))\n"
    code += "from orchestrator.baseline import main\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--ood-resize" in done.stdout


def test_the_paper_s_numbers_are_beside_sets_of_its_names_and_below() -> None:
    sets = (Target("lsun-crop", "k1", 100), Target("mine", "k2", 50, "crop", 1, 0))
    baseline = Baseline("cifar10", "pixel-gaussian", OOD, 32, "f", tuple(CLASSES), sets)
    results = {key: {"values": {"final/ap": 0.25, "final/skew": 0.5}} for key in ("k1", "k2")}
    table = baseline_table(baseline, results, "tab:mine")
    assert table.rows[:2] == (
        ("lsun-crop", "100", "as they are", 0.5, 0.25, pytest.approx(0.5806)),
        ("mine", "50", "1 random crop each, seed 0", 0.5, 0.25, ""),
    )
    below = {str(row[0]): row[-1] for row in table.rows[2:]}
    paper = {"tinyimagenet-crop": 96.84, "tinyimagenet-resize": 99.03, "lsun-resize": 99.77, "isun": 99.21}
    assert below == {name: pytest.approx(percent / 100) for name, percent in paper.items()}
    assert "ODIN" in table.caption


@pytest.mark.slow
def test_pixel_gaussians_on_cifar10_reproduce_the_paper_s_average(runs: Runs, shared_data: Path) -> None:
    assert runs.run("pixel-gaussian", "cifar10", "--data", str(shared_data)) == 0
    for name, expected in zip(CLASSES, BY_CLASS, strict=True):
        assert runs.percent(name) == pytest.approx(expected, abs=0.05)
    assert runs.percent("average") == pytest.approx(11.17, abs=0.05)
    assert float(runs.table()["average"]["paper_ap"]) == pytest.approx(0.1117)


@pytest.mark.slow
def test_the_resize_decides_what_pixel_gaussians_see(runs: Runs, shared_data: Path) -> None:
    """Tiny ImageNet's 10,000 test images against CIFAR-10's, as the paper's crops and resized images."""
    expected = {"crop": (96.84, 0.5), "nearest": (99.03, 0.5), "box": (95.7, 0.5), "bilinear": (58.0, 1.0)}
    for resize, (percent, tolerance) in expected.items():
        words = ["--ood", f"{resize}={shared_data / 'tinyimagenet_test.parquet'}", "--ood-resize", resize]
        assert runs.run("pixel-gaussian", "cifar10", "--data", str(shared_data), *words) == 0
        assert runs.percent(resize) == pytest.approx(percent, abs=tolerance)
        assert resize in runs.table()[resize]["resize"]


@pytest.mark.slow
def test_small_crops_of_photographs_have_few_edges(runs: Runs, shared_data: Path) -> None:
    """10,000 crops of 224x224 photographs: the paper's LSUN pattern, edges tell and Gaussians do not."""
    words = ["cifar10", "--data", str(shared_data), "--ood-resize", "crop", "--crops-per-image", "5"]
    words += ["--ood", f"crops={shared_data / 'imagenette224_subset_train.parquet'}"]
    assert runs.run("pixel-gaussian", *words, name="gaussian") == 0
    assert runs.run("edge-energy", *words, name="edges") == 0
    assert 51 < runs.percent("crops", "gaussian") < 56
    assert runs.percent("crops", "edges") == pytest.approx(80.2, abs=0.1)


@pytest.mark.slow
def test_edges_score_higher_only_if_the_filter_smooths_across_neighbouring_images(shared_data: Path) -> None:
    """The figures that docs/baselines.md sets against each other, by scipy's filter."""
    crops = {"resize": "crop", "crops_per_image": 5}
    sets = (("cifar10_test", {}), ("imagenette224_subset_train", crops))
    greys = []
    for name, how in sets:
        found = load_images(name, str(shared_data / f"{name}.parquet"), side=32, channels=3, **how)
        greys.append(found.pixels / 255 @ np.array([0.299, 0.587, 0.114]))  # (N, H, W)
    is_anomaly = np.repeat([False, True], [len(grey) for grey in greys])

    def energies(grey: np.ndarray) -> np.ndarray:
        squares = [sobel(grey, axis, mode="mirror") ** 2 for axis in (-2, -1)]
        return sum(squares).sum((-2, -1))

    stacked = np.concatenate([energies(grey) for grey in greys])
    alone = np.concatenate([[energies(image) for image in grey] for grey in greys])
    assert 100 * average_precision_score(is_anomaly, -alone) == pytest.approx(80.2, abs=0.1)
    assert 100 * average_precision_score(is_anomaly, -stacked) == pytest.approx(85.0, abs=0.1)

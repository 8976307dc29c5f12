"""Methods that train nothing: by the baseline command, and in sweeps beside trained ones."""

from __future__ import annotations

import csv
import json
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
from orchestrator.ledger.passwords import masked
from orchestrator.score import main as score
from orchestrator.sweep import main as sweep
from tests.images import noise, write_folder
from tests.sweeps import ROOT, cells
from trainables.data.image_sets import load_images

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BY_CLASS = [7.68, 18.87, 8.04, 8.89, 7.94, 8.28, 16.84, 12.84, 7.33, 14.94]
"""AP in percent of an independent implementation, by CIFAR-10's held-out classes."""


class Runs:
    """A storage folder, the command that writes to it, and its contents."""

    def __init__(self, storage: Path, database: Path) -> None:
        self.storage = storage
        self.uri = f"sqlite:///{database}"

    def run(self, *words: object, name: str = "mine") -> int:
        where = ["--storage", str(self.storage), "--tracking-uri", self.uri, "--name", name]
        return main([*map(str, words), *where])

    def sweep(self, *words: object, name: str = "mine") -> int:
        where = ["--storage", str(self.storage), "--tracking-uri", self.uri, "--name", name]
        return sweep([*map(str, words), "--executor", "inline", *where])

    def table(self, name: str = "mine") -> dict[str, dict[str, str]]:
        """Return the rows of table.csv by their first column."""
        with (self.storage / name / "report" / "table.csv").open(newline="") as file:
            return {next(iter(row.values())): row for row in csv.DictReader(file)}

    def percent(self, method: str, row: str, name: str = "mine") -> float:
        return 100 * float(self.table(name)[row][f"ap_{method}"])

    def beside(self, method: str, image_set: str, name: str = "mine") -> float:
        """Return the AP of an image set in percent."""
        values = json.loads(self.results(name)[f"{method}/none/s0"])["values"]
        return 100 * float(values[f"ood/{image_set}/ap_{method}"])

    def cells(self, name: str = "mine") -> dict[str, Path]:
        """Return the folders of the cells that are done, by label."""
        return cells(self.storage / name)

    def results(self, name: str = "mine") -> dict[str, str]:
        """Return result.json by label."""
        return {label: (cell / "result.json").read_text() for label, cell in self.cells(name).items()}

    def tracked(self, benchmark: str = "digits", name: str = "mine") -> list[Run]:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(benchmark).experiment_id
        ledger = (self.storage / name / "identity").read_text()
        return client.search_runs([experiment], f"tags.ledger = '{ledger}'")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store for all tests, which takes longer to create than most of them take."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, database: Path) -> Runs:
    return Runs(tmp_path / "runs", database)


def without_cost(run: Run) -> dict[str, float]:
    """Return a run's metrics but those that differ from machine to machine."""
    return {name: value for name, value in run.data.metrics.items() if not name.startswith("cost/")}


def test_every_class_of_digits_is_scored_reported_and_recorded(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.run("edge-energy", "digits") == 0
    printed = capsys.readouterr().out
    assert "WARNING" not in printed
    table = runs.table()
    assert list(table) == [*"0123456789", "average"]
    for name in "0123456789":
        scores = pq.read_table(runs.cells()[f"edge-energy/{name}/s0"] / "scores.parquet").to_pandas()
        assert list(scores) == ["index", "label", "is_anomaly", "edge-energy"]
        targets = load_digits().target
        assert scores["is_anomaly"].sum() == (scores["label"] == -1).sum() < (targets == int(name)).sum()
        assert sorted(scores["index"]) == list(range(len(scores)))
        expected = average_precision_score(scores["is_anomaly"], scores["edge-energy"])
        assert float(table[name]["ap_edge-energy"]) == pytest.approx(expected, rel=1e-9)
        assert float(table[name]["random_ap"]) == pytest.approx(scores["is_anomaly"].mean(), rel=1e-9)
        assert f"{100 * expected:.2f}" in printed
    mean = np.mean([float(table[name]["ap_edge-energy"]) for name in "0123456789"])
    assert float(table["average"]["ap_edge-energy"]) == pytest.approx(mean)
    three = runs.cells()["edge-energy/3/s0"]
    assert {path.name for path in three.iterdir()} == {
        "attempts",
        "cell.json",
        "result.json",
        "scores.parquet",
    }
    recorded = {run.info.run_name: run for run in runs.tracked()}
    assert set(recorded) == {"mine", *(f"edge-energy/{name}/s0" for name in "0123456789")}
    run = recorded["edge-energy/3/s0"]
    assert run.info.status == "FINISHED"
    assert (run.data.tags["kind"], run.data.tags["cell"]) == ("final", three.name)
    wanted = {"benchmark": "digits", "method": "edge-energy", "holdout": "3", "seed": "0", "aux_weight": "0"}
    assert wanted.items() <= run.data.params.items()
    finals = json.loads((three / "result.json").read_text())["values"]
    results = without_cost(run)
    assert results == {k: v for k, v in finals.items() if k.startswith("final/")}
    assert set(results) == {
        *(f"final/{kind}_edge-energy" for kind in ("ap", "auroc", "fpr95")),
        "final/skew",
    }
    assert without_cost(recorded["mine"]) == {"mean/edge-energy/ap_edge-energy": pytest.approx(mean)}


def test_it_grows_and_computes_and_records_nothing_twice(runs: Runs) -> None:
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "7", "2") == 0
    before = runs.results()
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "7", "2") == 0
    assert runs.results() == before
    assert runs.run("pixel-gaussian", "digits", "--holdouts", "7", "2", "5") == 0
    assert list(runs.table()) == ["7", "2", "5", "average"]
    assert before.items() <= runs.results().items()
    client = MlflowClient(runs.uri)
    found = [run for run in runs.tracked() if run.data.tags["kind"] == "final"]
    assert sorted(run.info.run_name for run in found) == [f"pixel-gaussian/{name}/s0" for name in "257"]
    for run in found:
        assert len(client.get_metric_history(run.info.run_id, "final/ap_pixel-gaussian")) == 1


def test_a_result_that_was_damaged_is_scored_again(runs: Runs) -> None:
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    path = runs.cells()["edge-energy/1/s0"] / "scores.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    assert path.read_bytes() == good


SMALL = ["--holdouts", "3", "none", "8", "--seeds", "2", "--set", "epochs=2", "ap_window=1"]
METHODS = ["--methods", "classification", "pixel-gaussian", "edge-energy"]


def test_beside_trained_methods_they_change_nothing_and_have_one_seed(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.sweep(*METHODS[:2], *SMALL, name="alone") == 0
    assert runs.sweep(*METHODS[:2], *SMALL) == 0
    assert runs.sweep(*METHODS, *SMALL) == 0  # the same sweep, extended
    printed = capsys.readouterr().out
    assert "2 seeds, in percent" in printed
    assert "asterisk" not in printed
    assert "Going on with sweep mine: 6 of 12 cells are done." in printed
    assert "pixel-gaussian, AP (beside classification's AP-MSP): " in printed
    alone, beside = runs.cells("alone"), runs.cells()
    assert {label: cell.name for label, cell in alone.items()}.items() <= {
        label: cell.name for label, cell in beside.items()
    }.items()
    for label, cell in alone.items():
        assert (cell / "scores.parquet").read_bytes() == (beside[label] / "scores.parquet").read_bytes()
    assert sorted(set(beside) - set(alone)) == [
        f"{method}/{holdout}/s0" for method in METHODS[:1:-1] for holdout in ("3", "8", "none")
    ]
    with (runs.storage / "mine" / "report" / "cells.csv").open(newline="") as file:
        rows = {f"{row['method']}/{row['holdout']}/s{row['seed']}": row for row in csv.DictReader(file)}
    own = json.loads(runs.results()["pixel-gaussian/3/s0"])["values"]
    for kind in ("ap", "auroc", "fpr95"):
        name = f"{kind}_pixel-gaussian"
        assert float(rows["pixel-gaussian/3/s0"][name]) == own[f"final/{name}"]
        assert rows["classification/3/s0"][name] == rows["pixel-gaussian/none/s0"][name] == ""


def test_detectors_that_come_later_leave_their_cells_alone(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.sweep(*METHODS[:3], *SMALL[6:], "--holdouts", "3", "--seeds", "1") == 0
    before = runs.results()["pixel-gaussian/3/s0"]
    where = ["--storage", str(runs.storage), "--tracking-uri", runs.uri]
    assert score(["mine", "--detectors", "energy", *where]) == 0
    assert "adding energy to 1 of 1 finished final cell." in capsys.readouterr().out
    assert runs.results()["pixel-gaussian/3/s0"] == before
    assert "classification_ap_energy_mean" in runs.table()["3"]
    assert runs.run("edge-energy", "--holdouts", "3", name="alone") == 0
    assert score(["alone", "--detectors", "energy", *where]) == 2
    assert "No method of the sweep 'alone' trains a network" in capsys.readouterr().err


@pytest.mark.slow
def test_through_ray_and_with_workers_the_numbers_are_the_same(runs: Runs) -> None:
    words = ["--holdouts", "3", "--seeds", "1", "--set", "epochs=1", "--cpus-per-worker", "1"]
    where = ["--storage", str(runs.storage), "--tracking-uri", runs.uri]
    methods = METHODS[:3]
    assert sweep([*methods, *words, "--workers", "2", "--name", "group", *where]) == 0
    assert runs.sweep(*methods, *words, name="inline") == 0
    scored = [runs.cells(name)["pixel-gaussian/3/s0"] / "scores.parquet" for name in ("group", "inline")]
    assert pq.read_table(scored[0]) == pq.read_table(scored[1])


def noises(folder: Path, side: int, channels: int = 3, count: int = 30) -> Path:
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(noise(seed, side, channels)).save(folder / f"{seed}.png")
    return folder


def test_image_sets_are_scored_against_all_test_images(runs: Runs, tmp_path: Path) -> None:
    large = noises(tmp_path / "large", 20)
    crops = ("--ood-resize", "crop", "--crops-per-image", "4", "--ood-seed", "3")
    assert runs.run("pixel-gaussian", "--ood", f"pieces={large}", *crops) == 0
    cell = runs.cells()["pixel-gaussian/none/s0"]
    (about,) = json.loads((cell / "cell.json").read_text())["image_sets"]
    pixels = load_images("pieces", str(large), side=8, channels=1, resize="crop", crops_per_image=4, seed=3)
    assert about == {
        "name": "pieces",
        "path": str(large),
        "resize": "crop",
        "crops_per_image": 4,
        "seed": 3,
        "digest": pixels.digest,
        "images": 120,
    }
    scores = pq.read_table(cell / "ood" / "pieces.parquet").to_pandas()
    assert list(scores) == ["index", "pixel-gaussian"]
    assert list(scores["index"]) == list(range(120))
    normal = pq.read_table(cell / "scores.parquet").to_pandas()
    assert not normal["is_anomaly"].any()
    both = np.concatenate([normal["pixel-gaussian"], scores["pixel-gaussian"]])
    label = np.repeat([0, 1], [len(normal), 120])
    values = json.loads((cell / "result.json").read_text())["values"]
    expected = average_precision_score(label, both)
    assert expected > 0.99  # noise is no digit
    assert values["ood/pieces/ap_pixel-gaussian"] == pytest.approx(expected, abs=1e-12)
    assert values["ood/pieces/skew"] == pytest.approx(120 / len(both))
    (run,) = (run for run in runs.tracked() if run.data.tags["kind"] == "final")
    assert without_cost(run) == {name: value for name, value in values.items() if name != "epochs"}
    with (runs.storage / "mine" / "report" / "image-sets.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image_set"] == "pieces"
    assert float(row["pixel-gaussian_ap_pixel-gaussian"]) == pytest.approx(expected)
    good = (cell / "ood" / "pieces.parquet").read_bytes()
    (cell / "ood" / "pieces.parquet").write_bytes(good[:-9])
    assert runs.run("pixel-gaussian", "--ood", f"pieces={large}", *crops) == 0
    assert (cell / "ood" / "pieces.parquet").read_bytes() == good


def test_a_baseline_is_named_after_its_image_sets(runs: Runs, tmp_path: Path) -> None:
    first, second = noises(tmp_path / "first", 8), noises(tmp_path / "second", 8)
    where = ["--storage", str(runs.storage), "--tracking-uri", runs.uri]
    for folder in (first, second, first):
        assert main(["edge-energy", "--ood", f"a={folder}", *where]) == 0
    assert len(list(runs.storage.glob("digits-edge-energy-*/sweep.json"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pixel-gauss"], "Method: invalid choice"),
        (["edge-energy", "didgits"], "Did you mean 'digits'?"),
        (["edge-energy", "--holdouts", "ten"], "There is no class to hold out 'ten'"),
        (["edge-energy", "--holdouts", "none"], "--holdouts none leaves nothing to detect"),
        (["edge-energy", "--ood", "a=nowhere"], "nowhere does not exist"),
        (["edge-energy", "--ood-resize", "box"], "no use without image sets"),
        (["edge-energy", "--ood", "a=.", "--ood-seed", "-1"], "whole number from 0 to"),
        (["edge-energy", "--ood", "a=tests/trainables"], "holds no image"),
        (["edge-energy", "--set", "epochs=3"], "train_fraction, skip_bad_images, not epochs"),
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
    assert not (runs.storage / "mine" / "sweep.json").exists()


def test_a_class_called_none_is_a_mistake_before_any_work(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = {"one": 2, "none": 2, "two": 2}
    write_folder(tmp_path / "few", {"train": few, "test": few})
    words = ["image-folder", "--data", str(tmp_path / "few"), "--set", "image_size=8"]
    assert runs.run("edge-energy", *words) == 2
    assert "has a class 'none'" in capsys.readouterr().err
    assert not (runs.storage / "mine").exists()


def test_two_classes_are_enough_where_nothing_is_trained(runs: Runs, tmp_path: Path) -> None:
    few = {"one": 4, "two": 4}
    write_folder(tmp_path / "few", {"train": few, "test": few})
    words = ["image-folder", "--data", str(tmp_path / "few"), "--set", "image_size=8"]
    assert runs.run("pixel-gaussian", *words) == 0
    assert float(runs.table()["one"]["random_ap"]) == 0.5


def test_a_tracking_uri_whose_driver_is_missing_is_a_mistake_unlike_a_missing_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "postgresql+psycopg://u:p@127.0.0.1:1/x"
    words = ["edge-energy", "--storage", str(tmp_path), "--name", "mine", "--tracking-uri", uri]
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert main(words) == 2
    assert f"{masked(uri)} needs the Python module psycopg" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "sweep.json").exists()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(words) == 0
    assert "MLflow is not installed here" in capsys.readouterr().out
    assert (tmp_path / "mine" / "report" / "table.csv").exists()


def test_a_name_belongs_to_one_sweep(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.run("edge-energy", "--holdouts", "1") == 0
    assert runs.run("pixel-gaussian", "--holdouts", "1") == 2
    assert "methods ['edge-energy'] (asked: ['pixel-gaussian'])" in capsys.readouterr().err
    old = runs.storage / "old"
    old.mkdir()
    (old / "baseline.json").write_text("{}")
    assert runs.run("edge-energy", "--holdouts", "1", name="old") == 2
    assert "'old' in" in (error := capsys.readouterr().err)
    assert "is a baseline of version 0.1" in error
    assert not (old / "sweep.json").exists()


def test_help_imports_neither_torch_nor_mlflow() -> None:
    code = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'mlflow', 'ray', 'sklearn']))\n"
    code += "from orchestrator.baseline import main\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--holdouts" in done.stdout


@pytest.mark.slow
def test_pixel_gaussians_on_cifar10_reproduce_the_paper_s_average(
    runs: Runs, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.run("pixel-gaussian", "cifar10", "--data", str(shared_data)) == 0
    for name, expected in zip(CLASSES, BY_CLASS, strict=True):
        assert runs.percent("pixel-gaussian", name) == pytest.approx(expected, abs=0.05)
    assert runs.percent("pixel-gaussian", "average") == pytest.approx(11.17, abs=0.05)
    assert "11.17" in (runs.storage / "mine" / "report" / "table.md").read_text()


@pytest.mark.slow
def test_the_resize_decides_what_pixel_gaussians_see(runs: Runs, shared_data: Path) -> None:
    """Tiny ImageNet's 10,000 test images against CIFAR-10's, as the paper's crops and resized images."""
    expected = {"crop": (96.84, 0.5), "nearest": (99.03, 0.5), "box": (95.7, 0.5), "bilinear": (58.0, 1.0)}
    for resize, (percent, tolerance) in expected.items():
        words = ["--ood", f"{resize}={shared_data / 'tinyimagenet_test.parquet'}", "--ood-resize", resize]
        assert runs.run("pixel-gaussian", "cifar10", "--data", str(shared_data), *words, name=resize) == 0
        assert runs.beside("pixel-gaussian", resize, name=resize) == pytest.approx(percent, abs=tolerance)


@pytest.mark.slow
def test_small_crops_of_photographs_have_few_edges(runs: Runs, shared_data: Path) -> None:
    """10,000 crops of 224x224 photographs: the paper's LSUN pattern, edges tell and Gaussians do not."""
    words = ["cifar10", "--data", str(shared_data), "--ood-resize", "crop", "--crops-per-image", "5"]
    words += ["--ood", f"crops={shared_data / 'imagenette224_subset_train.parquet'}"]
    assert runs.run("pixel-gaussian", *words, name="gaussian") == 0
    assert runs.run("edge-energy", *words, name="edges") == 0
    assert 51 < runs.beside("pixel-gaussian", "crops", "gaussian") < 56
    assert runs.beside("edge-energy", "crops", "edges") == pytest.approx(80.2, abs=0.1)


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

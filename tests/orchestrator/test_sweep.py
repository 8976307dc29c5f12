"""The command as a person runs it: real Ray, real MLflow, real digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.sweep import main
from tests.images import write_digits
from tests.sweeps import SMALL, assert_equal_sweeps, cells, only_sweep, run


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The storage folder and output of a small sweep through Ray."""
    storage = tmp_path_factory.mktemp("swept")
    done = run(*SMALL, "--storage", storage)
    assert done.returncode == 0, done.stderr
    return storage, done.stdout


def test_a_sweep_ends_with_one_table_and_the_way_to_mlflow(swept: tuple[Path, str]) -> None:
    storage, out = swept
    assert len(cells(only_sweep(storage))) == 12
    assert len([line for line in out.splitlines() if line.startswith("average  ")]) == 1
    for word in ("classification", "rotation", "AP-MSP", "AP-ODIN", "accuracy", "±", "ddof", "lambda"):
        assert word in out, word
    assert f"mlflow ui --backend-store-uri sqlite:///{storage}/mlflow.db" in out
    assert f"-m orchestrator.ui {only_sweep(storage).name} --storage {storage}" in out
    address = f"viewStateShareKey={only_sweep(storage).name}&compareRunsMode=CHART"
    (line,) = [line for line in out.splitlines() if line.endswith(address)]
    assert line.startswith("and open  http://127.0.0.1:5000/#/experiments/1/runs?")


def test_mlflow_holds_one_finished_run_a_cell_and_one_of_the_sweep(swept: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    storage, _ = swept
    sweep = only_sweep(storage)
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    runs = {
        name: client.search_runs([client.get_experiment_by_name(name).experiment_id])
        for name in ("digits", "digits-search")
    }
    by_kind = {
        "final": [r for r in runs["digits"] if r.data.tags["kind"] == "final"],
        "summary": [r for r in runs["digits"] if r.data.tags["kind"] == "summary"],
        "search": runs["digits-search"],
    }
    assert {kind: len(found) for kind, found in by_kind.items()} == {"final": 8, "summary": 1, "search": 4}
    done = cells(sweep)
    for found in [*by_kind["final"], *by_kind["search"]]:
        label = found.info.run_name
        assert found.info.status == "FINISHED"
        assert found.data.tags["cell"] == done[label].name
        assert found.data.tags["sweep"] == sweep.name
        result = json.loads((done[label] / "result.json").read_text())
        weight = result["aux_weights"].get("rotation", 0)
        assert float(found.data.params["aux_weight"]) == pytest.approx(weight)
        assert label.split("/")[:2] == [found.data.params["method"], found.data.params["holdout"]]
        if found in by_kind["search"]:
            assert not [m for m in found.data.metrics if m.startswith(("test/", "ap/", "final/"))]
            assert found.data.metrics["val/accuracy"] == result["values"]["value"]
        else:
            finals = {k: v for k, v in result["values"].items() if k.startswith("final/")}
            assert {k: v for k, v in found.data.metrics.items() if k.startswith("final/")} == finals
        assert len(client.get_metric_history(found.info.run_id, "train/loss")) == 3
    (summary,) = by_kind["summary"]
    assert summary.info.run_name == sweep.name
    assert {"mean/rotation/ap_msp", "std/classification/ap_odin"} <= summary.data.metrics.keys()


def test_search_cells_open_neither_the_test_nor_the_held_out_class(swept: tuple[Path, str]) -> None:
    for label, folder in cells(only_sweep(swept[0])).items():
        account = json.loads((folder / "cell.json").read_text())
        opened = {entry["split"]: entry["classes"] for entry in account["opened"]}
        holdout = label.split("/")[1]
        assert holdout not in opened["train"]
        assert ("test" in opened) == ("search" not in label)


def test_the_same_command_prints_the_report_of_a_finished_sweep(
    swept: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    storage, first = swept
    assert main([*SMALL, "--storage", str(storage)]) == 0
    again = capsys.readouterr().out
    assert "12 of 12 cells are done" in again
    table = [line for line in first.splitlines() if line.startswith(("3", "8", "average"))]
    assert table
    assert [line for line in again.splitlines() if line in table] == table
    assert main(["--resume", "--name", only_sweep(storage).name, "--storage", str(storage)]) == 0
    assert "12 of 12 cells are done" in capsys.readouterr().out


def test_inline_without_ray_and_mlflow_gives_the_same_ledger(swept: tuple[Path, str], tmp_path: Path) -> None:
    done = run(*SMALL, "--storage", tmp_path, "--executor", "inline", blocked=True)
    assert done.returncode == 0, done.stderr
    assert "--rebuild-tracking" in done.stdout
    assert_equal_sweeps(only_sweep(swept[0]), only_sweep(tmp_path))
    assert not (tmp_path / "mlflow.db").exists()
    name = only_sweep(tmp_path).name
    rebuilt = run(name, "--storage", tmp_path, "--rebuild-tracking", module="orchestrator.report")
    assert rebuilt.returncode == 0, rebuilt.stderr

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments() if e.name.startswith("digits")]
    assert len(client.search_runs(experiments)) == 13


def test_concurrency_changes_nothing_and_a_sweep_can_grow(swept: tuple[Path, str], tmp_path: Path) -> None:
    words = [
        "--lambda-trials",
        "2",
        "--set",
        "epochs=3",
        "ap_window=2",
        "--storage",
        tmp_path,
        "--name",
        "grown",
    ]
    small = run(
        "--holdouts", "3", "--seeds", "1", "--methods", "classification", "--executor", "inline", *words
    )
    assert small.returncode == 0, small.stderr
    grown = run("--holdouts", "3", "8", "--seeds", "2", "--max-concurrent", "1", *words)
    assert grown.returncode == 0, grown.stderr
    assert "1 of 12 cells are done" in grown.stdout
    assert_equal_sweeps(only_sweep(swept[0]), only_sweep(tmp_path))


# The firewall


def test_no_test_image_and_no_held_out_image_reaches_the_search(tmp_path: Path) -> None:
    """Noise in their place: the same lambdas, rungs and validation accuracies, to the bit."""
    chosen = {}
    for noisy in (False, True):
        folder, storage = tmp_path / f"images{noisy}", tmp_path / f"runs{noisy}"
        write_digits(folder, noisy=noisy)
        words = [
            "image-folder",
            "--data",
            folder,
            "--holdouts",
            "three",
            "--seeds",
            "1",
            "--lambda-trials",
            "4",
        ]
        words += ["--methods", "rotation", "--executor", "inline", "--storage", storage]
        words += ["--search", "learning_rate=0.03..0.3", "--halving", "2"]
        done = run(*words, "--set", "epochs=4", "image_size=8", "depth=10", "width=1", "batch_size=16")
        assert done.returncode == 0, done.stderr
        results = {
            label: json.loads((folder / "result.json").read_text())
            for label, folder in cells(only_sweep(storage)).items()
        }
        chosen[noisy] = {
            label: [r.get(name) for name in ("aux_weights", "fields", "values", "rungs", "stopped_at")]
            for label, r in results.items()
            if "search" in label
        }
        final = results["rotation/three/s0"]
        chosen[noisy]["chosen"] = [final["aux_weights"], final["fields"]]
        final = results["rotation/three/s0"]["values"]
        chosen[noisy]["final"] = final
    finals = [chosen[noisy].pop("final") for noisy in (False, True)]
    assert finals[0] != finals[1]  # the noise was really there
    assert len(chosen[False]) == 5
    assert chosen[False] == chosen[True]


# A user's images


def test_a_user_s_image_folder_becomes_a_table(tmp_path: Path) -> None:
    write_digits(tmp_path / "images")
    shutil.rmtree(tmp_path / "images" / "train" / "eight")
    shutil.rmtree(tmp_path / "images" / "test" / "eight")
    grey, rgba = (tmp_path / "images" / "train" / "one" / f"{n}.png" for n in (0, 1))
    Image.open(grey).convert("L").save(grey)
    Image.open(rgba).convert("RGBA").save(rgba)
    words = ["image-folder", "--data", tmp_path / "images", "--storage", tmp_path / "runs", "--seeds", "1"]
    words += [
        "--set",
        "epochs=2",
        "image_size=16",
        "depth=10",
        "--lambda-trials",
        "2",
        "--executor",
        "inline",
    ]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    for name in ("one", "three", "seven"):
        assert any(line.startswith(name) for line in done.stdout.splitlines())


def test_a_dry_run_counts_the_cells_and_touches_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="counts a process's seconds where the system does")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--dry-run", "--storage", tmp_path / "runs", "--data", tmp_path / "nowhere")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # seconds of a CPU
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["search", "rotation", "40"] in [row[:3] for row in rows]
    assert ["final", "classification", "30"] in [row[:3] for row in rows]
    assert "TFLOPs" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_inline_sweeps_say_how_far_they_are(tmp_path: Path) -> None:
    words = ["--holdouts", "3", "--seeds", "1", "--methods", "classification", "--set", "epochs=1"]
    done = run(*words, "--executor", "inline", "--storage", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1/1 cells done" in done.stderr

"""The command that adds detectors to a finished sweep, as a person runs it, on small real sweeps."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from PIL import Image
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score, roc_auc_score

import orchestrator.execution.later_scores as module
from orchestrator.ledger.digest import seal
from orchestrator.ledger.interpreter import python
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.score import main
from orchestrator.sweep import main as sweep
from tests.images import noise, write_digits
from tests.sweeps import ROOT, cells, run
from trainables.detectors import DETECTORS, Detector
from trainables.detectors.contract import LOGITS

SMALL = ["--seeds", "1", "--aux-weight", "0.5", "--executor", "inline", "--set", "epochs=2", "ap_window=2"]
WINDOWED, LAST = ("energy", "max-logit"), ("odin", "knn", "mahalanobis", "vim")
LATER = (*WINDOWED, *LAST)
METRICS = ("ap_{}", "ap_{}_last", "auroc_{}", "fpr95_{}")


@pytest.fixture(scope="module")
def swept_once(_own_home: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with the same sweep twice, scored by all detectors and by two, and one without weights."""
    storage = tmp_path_factory.mktemp("scored")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    common = ["digits", "--holdouts", "3", "8", *SMALL, "--storage", str(storage)]
    assert sweep([*common, "--name", "all", "--detectors", "msp", "entropy", *LATER]) == 0
    assert sweep([*common, "--name", "two", "--detectors", "msp", "entropy"]) == 0
    light = [word for word in common if word != "8"]
    assert sweep([*light, "--set", "keep_weights=false", "--name", "light"]) == 0
    monkeypatch.undo()
    return storage


@pytest.fixture
def storage(swept_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(swept_once, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not about MLflow's records does not wait for them."""
    monkeypatch.setitem(sys.modules, "mlflow", None)


def score(storage: Path, *detectors: str, name: str = "two", more: tuple[str, ...] = ()) -> int:
    return main([name, "--detectors", *detectors, "--storage", str(storage), *more])


def write_json(path: Path, content: dict) -> None:
    """Write a file of a ledger as a whole one."""
    path.write_bytes(seal({name: value for name, value in content.items() if name != "digest"}))


def later(cell: Path, detector: str) -> dict:
    record = json.loads((cell / "detectors" / f"{detector}.json").read_text())
    del record["digest"]  # which covers times
    return record


def values(cell: Path) -> dict[str, float]:
    return json.loads((cell / "result.json").read_text())["values"]


def times(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def test_scores_are_those_of_a_sweep_that_named_the_detectors_from_the_start(storage: Path) -> None:
    assert score(storage, *LATER) == 0
    expected, found = cells(storage / "all"), cells(storage / "two")
    assert expected.keys() == found.keys()
    assert len(found) == 4
    for label, cell in found.items():
        own, columns = values(expected[label]), pq.read_table(expected[label] / "scores.parquet")
        for name in LATER:
            record, table = later(cell, name), pq.read_table(cell / "detectors" / f"{name}.parquet")
            metrics = METRICS if name in WINDOWED else METRICS[1:]
            wanted = {f"final/{metric.format(name)}" for metric in metrics}
            assert record["metrics"] == {metric: own[metric] for metric in wanted}, (label, name)
            assert record["windowed"] == (name in WINDOWED)
            assert table["index"].equals(columns["index"])
            assert table[name].equals(columns[name])


def test_values_are_what_other_libraries_compute_from_the_files(storage: Path) -> None:
    assert score(storage, "energy") == 0
    with (storage / "two" / "report" / "cells.csv").open(newline="") as file:
        rows = {f"{row['method']}/{row['holdout']}/s{row['seed']}": row for row in csv.DictReader(file)}
    for label, cell in cells(storage / "two").items():
        files = [cell / "scores.parquet", cell / "window.parquet"]
        scores, window = (pq.read_table(path).to_pandas() for path in files)
        anomalous = scores["is_anomaly"].to_numpy()
        aps = []
        for logits in (window[window["epoch"] == 1]["logits"], scores["logits"]):
            energy = -logsumexp(np.stack(logits).astype(np.float64), axis=1)
            aps.append(average_precision_score(anomalous, energy))
        row = {name: float(rows[label][name]) for name in ("ap_energy", "ap_energy_last", "auroc_energy")}
        expected = {"ap_energy": np.mean(aps), "ap_energy_last": aps[1]}
        assert row == pytest.approx({**expected, "auroc_energy": roc_auc_score(anomalous, energy)}, abs=1e-12)
        assert later(cell, "energy")["by_epoch"] == pytest.approx({"1": aps[0], "2": aps[1]}, abs=1e-12)


def test_report_and_mlflow_show_them_and_nothing_is_scored_or_recorded_twice(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in storage.glob("two/cells/*/*") if path.is_file()}
    assert score(storage, "energy", "knn") == 0
    out = capsys.readouterr().out
    assert "AP-Energy" in out
    assert "AP-KNN (last)" in out
    assert {path: path.read_bytes() for path in before} == before
    scored = times(storage, "two/cells/*/detectors/*")
    assert len(scored) == 4 * 2 * 2
    assert score(storage, "energy", "knn") == 0
    assert times(storage, "two/cells/*/detectors/*") == scored
    assert "to 0 of 4 finished final cells" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert by_name.keys() == {*cells(storage / "two"), "two"}
    for label, cell in cells(storage / "two").items():
        run = by_name[label]
        recorded = run.data.metrics
        for name in ("energy", "knn"):
            assert later(cell, name)["metrics"].items() <= recorded.items()
            history = client.get_metric_history(run.info.run_id, f"ap/{name}")
            by_epoch = {str(point.step): point.value for point in history}
            assert by_epoch == later(cell, name)["by_epoch"]
            assert len(history) == len(by_epoch)
        assert values(cell)["final/ap_msp"] == recorded["final/ap_msp"]
        ended = json.loads((cell / "result.json").read_text())["attempt"]["finished_at"]
        assert run.info.end_time == round(1000 * ended)
    assert "mean/rotation/ap_energy" in by_name["two"].data.metrics


def test_a_run_that_was_killed_goes_on_and_another_source_is_scored_again(storage: Path) -> None:
    assert score(storage, "energy", "knn") == 0
    first, second, third, _ = (cell / "detectors" for cell in cells(storage / "two").values())
    expected = later(first.parent, "knn")
    (first / "knn.json").unlink()  # killed between the scores and the record
    (first / "knn.json.0123.part").write_text("{")
    (second / "energy.parquet").write_bytes(b"cut")
    changed = {**later(third.parent, "knn"), "source": "0" * 64, "metrics": {"final/ap_knn_last": 2.0}}
    write_json(third / "knn.json", changed)
    before = times(storage, "two/cells/*/detectors/*.json")
    assert score(storage, "energy", "knn") == 0
    after = times(storage, "two/cells/*/detectors/*.json")
    touched = {path for path in after if after[path] != before.get(path)}
    assert touched == {first / "knn.json", second / "energy.json", third / "knn.json"}
    assert {**later(first.parent, "knn"), "attempt": 0} == {**expected, "attempt": 0}
    assert later(third.parent, "knn")["source"] == expected["source"]
    assert not list(storage.glob("two/cells/*/detectors/*.part"))


def test_an_interrupt_loses_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = module.score_network, []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "score_network", interrupted)
    assert score(storage, "vim") == 130
    done = times(storage, "two/cells/*/detectors/vim.*")
    assert len(done) == 2 * 2
    assert score(storage, "vim") == 0
    after = times(storage, "two/cells/*/detectors/vim.*")
    assert len(after) == 4 * 2
    assert done.items() <= after.items()


class Picky(Detector):
    """The largest logit, but it fails for some networks."""

    name = "picky"
    label = "Picky one"
    needs = LOGITS
    calls = 0

    def score(self, logits):
        Picky.calls += 1
        if Picky.calls == 3:  # the second cell, whose earlier evaluation comes first
            raise RuntimeError("no more of these")
        return logits.max(1).values


@pytest.fixture
def picky() -> Iterator[None]:
    Picky.calls = 0
    DETECTORS.bring(Picky, "picky")
    yield
    del DETECTORS._brought["picky"]


def test_a_detector_that_fails_for_one_cell_leaves_the_others_and_is_named(
    storage: Path, picky: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(storage, "picky", "max-logit") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Not scored:" in out
    assert "the detector picky failed: RuntimeError: no more of these" in out
    assert len(list(storage.glob("two/cells/*/detectors/picky.json"))) == 4 - 1
    assert len(list(storage.glob("two/cells/*/detectors/max-logit.json"))) == 4
    assert "AP-Picky one" in out
    command = f"{python()} -m orchestrator.score two --detectors picky --storage {storage}"
    assert f"picky in 1 cell. Add them with: {command}" in out
    assert score(storage, "picky") == 0
    assert "Add them with" not in capsys.readouterr().out


def test_without_weights_only_detectors_on_logits_are_added(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(storage, "energy", "vim", name="light") == 2
    said = capsys.readouterr().err
    assert "scoring by vim needs the trained network" in said
    assert "detectors on logits can be added: energy, entropy, max-logit, msp." in said
    assert not list(storage.glob("light/cells/*/detectors"))
    assert score(storage, "energy", name="light") == 0
    for label, cell in cells(storage / "light").items():
        expected = values(cells(storage / "all")[label])
        assert later(cell, "energy")["metrics"]["final/ap_energy"] == expected["final/ap_energy"]


def test_cells_without_weights_beside_others_are_left_out_and_named(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cells(storage / "two")["rotation/3/s0"] / "result.json"
    result = json.loads(path.read_text())
    del result["weights"]
    write_json(path, result)
    assert score(storage, "knn", "energy") == 1
    assert "No weights were kept of 1 finished cell, such as rotation/3/s0" in capsys.readouterr().out
    assert {each.stem for each in (path.parent / "detectors").iterdir()} == {"energy"}
    assert len(list(storage.glob("two/cells/*/detectors/knn.json"))) == 3


def test_weights_that_are_damaged_cost_their_cell_alone(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = cells(storage / "two").values()
    (first / "weights.safetensors").write_bytes(b"cut")
    assert score(storage, "knn", "energy") == 1
    assert "the kept weights cannot be used for knn (their file is missing" in capsys.readouterr().out
    assert {path.stem for path in (first / "detectors").iterdir()} == {"energy"}
    assert all((cell / "detectors" / "knn.json").exists() for cell in others)


def test_a_ledger_of_0_1_that_is_half_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "tests" / "ledger_of_0_1", tmp_path / "runs")
    name = "digits-71fc1416"
    assert score(tmp_path / "runs", "knn", name=name) == 2
    said = capsys.readouterr().err
    assert "No weights were kept of 2 finished cells, such as classification/3/s0 (version 0.1 kept" in said
    assert score(tmp_path / "runs", "energy", "msp", "odin", name=name) == 0
    assert "to 2 of 2 finished final cells; 2 are not finished and left out" in capsys.readouterr().out
    written = list(tmp_path.glob("runs/*/cells/*/detectors/*.json"))
    assert {path.stem for path in written} == {"energy"}  # MSP and ODIN are there from the start
    for path in written:
        scores = pq.read_table(path.parents[1] / "scores.parquet").to_pandas()
        energy = -logsumexp(np.stack(scores["logits"]).astype(np.float64), axis=1)
        ap = average_precision_score(scores["is_anomaly"], energy)
        metrics = json.loads(path.read_text())["metrics"]
        assert metrics["final/ap_energy"] == metrics["final/ap_energy_last"] == pytest.approx(ap, abs=1e-12)


def test_earlier_evaluations_that_are_gone_leave_the_last(storage: Path) -> None:
    for path in storage.glob("two/cells/*/window.parquet"):
        result = json.loads((path.parent / "result.json").read_text())
        del result["checksums"]["window.parquet"]
        write_json(path.parent / "result.json", result)
        path.unlink()
    assert score(storage, "energy") == 0
    for label, cell in cells(storage / "two").items():
        expected = values(cells(storage / "all")[label])
        metrics = later(cell, "energy")["metrics"]
        assert "final/ap_energy" not in metrics
        assert metrics.items() <= expected.items()


# The firewall


SETTINGS = ["epochs=2", "ap_window=2", "image_size=8", "depth=10", "width=1", "batch_size=16"]


def sweep_images(data: Path, storage: Path) -> None:
    words = [
        "image-folder",
        "--data",
        str(data),
        "--holdouts",
        "three",
        "--seeds",
        "1",
        "--storage",
        str(storage),
    ]
    words += ["--methods", "classification", "--executor", "inline", "--name", "mine", "--detectors", "msp"]
    words += ["--set", *SETTINGS]
    assert sweep(words) == 0


def test_training_images_of_the_held_out_class_change_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    found = {}
    for poisoned in (False, True):
        data, storage = tmp_path / f"images{poisoned}", tmp_path / f"runs{poisoned}"
        write_digits(data)
        for number, path in enumerate((data / "train" / "three").iterdir() if poisoned else ()):
            Image.fromarray(noise(number)).save(path)
        sweep_images(data, storage)
        assert score(storage, *LATER, name="mine") == 0
        found[poisoned] = {
            path.name: path.read_bytes() for path in storage.glob("mine/cells/*/detectors/*.parquet")
        }
        for path in storage.glob("mine/cells/*/detectors/*.json"):
            opened = {entry["split"]: entry["classes"] for entry in json.loads(path.read_text())["opened"]}
            assert set(opened) == (set() if path.stem in WINDOWED else {"train", "test"})
            assert "three" not in opened.get("train", [])
    assert len(found[False]) == len(LATER)
    assert found[False] == found[True]
    capsys.readouterr()
    other = ("--data", str(tmp_path / "imagesTrue"))
    for path in tmp_path.glob("runsFalse/mine/cells/*/detectors/knn.json"):
        path.unlink()
    assert score(tmp_path / "runsFalse", "knn", name="mine", more=other) == 2
    assert f"was begun on other data than {other[1]}" in capsys.readouterr().err
    assert score(tmp_path / "runsFalse", "knn", name="mine") == 0


def test_a_detector_that_opened_the_held_out_class_breaks_the_firewall(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(storage, "knn") == 0
    cell = cells(storage / "two")["rotation/8/s0"]
    record = later(cell, "knn")
    record["opened"][0]["classes"].append("8")
    write_json(cell / "detectors" / "knn.json", record)
    capsys.readouterr()
    assert score(storage, "knn") == 1
    assert "rotation/8/s0 scored by knn opened its held-out class '8'" in capsys.readouterr().out


# Mistakes, and what is not needed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: NAME"),
        (["two"], "--detectors"),
        (["two", "--detectors", "energie"], "Did you mean 'energy'?"),
        (["two", "--detectors", "knn", "knn"], "names 'knn' twice"),
        (["tow", "--detectors", "knn"], "There is no sweep 'tow'"),
    ],
)
def test_mistakes_are_one_sentence_before_torch_is_imported(
    storage: Path, words: list[str], message: str
) -> None:
    code = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'mlflow', 'ray']))\n"
    code += "from orchestrator.score import main\nsys.exit(main())"
    line = [sys.executable, "-c", code, *words, "--storage", str(storage)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_data_that_the_benchmark_would_not_read_is_a_mistake(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(storage, "knn", more=("--data", str(tmp_path))) == 2
    assert "no Parquet file of them" in capsys.readouterr().err
    assert score(storage, "energy", more=("--data", str(tmp_path))) == 0  # which opens no data


def test_it_waits_for_nobody_and_disturbs_no_driver(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(Ledger(str(storage), "two")):
        assert score(storage, "energy") == 2
    assert f"is being run by process {os.getpid()} on " in capsys.readouterr().err
    assert not list(storage.glob("two/cells/*/detectors"))


def test_neither_ray_nor_mlflow_is_needed(storage: Path) -> None:
    words = ["two", "--detectors", "knn", "energy", "--storage", storage]
    done = run(*words, module="orchestrator.score", blocked=True)
    assert done.returncode == 0, done.stderr
    assert "MLflow is not installed here, so nothing was recorded in it" in done.stdout
    assert not (storage / "mlflow.db").exists()
    assert len(list(storage.glob("two/cells/*/detectors/*.json"))) == 8


def test_a_sweep_without_a_finished_final_cell_is_a_mistake(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(storage / "two" / "cells")
    assert score(storage, "energy") == 2
    assert "No final cell of the sweep 'two' is finished" in capsys.readouterr().err


def test_image_sets_are_scored_as_by_a_sweep_that_named_them_from_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, pictures = tmp_path / "runs", tmp_path / "noise"
    pictures.mkdir()
    for seed in range(20):
        Image.fromarray(noise(seed, 8)).save(pictures / f"{seed:02}.png")
    small = [word for word in SMALL if word not in ("--aux-weight", "0.5")]
    common = ["digits", "--holdouts", "3", "none", *small, "--storage", str(storage)]
    common += ["--methods", "classification", "pixel-gaussian", "--detectors", "msp", "odin", "knn"]
    sets = ["--ood", f"noise={pictures}"]
    assert sweep([*common, "--name", "whole", *sets]) == 0
    assert sweep([*common, "--name", "later"]) == 0
    places = ["--storage", str(storage)]
    assert main(["later", *sets, *places]) == 0
    whole, added = cells(storage / "whole"), cells(storage / "later")
    assert len(added) == 4
    for label, cell in added.items():
        expected = {n: v for n, v in values(whole[label]).items() if n.startswith("ood/")}
        record = json.loads((cell / "ood" / "later" / "noise.json").read_text())
        assert record["metrics"] == expected
        assert [entry["split"] for entry in record["opened"]] == ["train", "test", "ood/noise"]
        own = pq.read_table(whole[label] / "ood" / "noise.parquet")
        found = pq.read_table(cell / "ood" / "later" / "noise.parquet")
        assert sorted(found.column_names) == sorted(own.column_names)
        assert found.select(own.column_names).equals(own)
    tables = [(storage / name / "report" / "image-sets.csv").read_text() for name in ("whole", "later")]
    assert tables[0] == tables[1]
    before = times(storage, "later/cells/*/ood/later/*")
    assert main(["later", *sets, *places]) == 0
    assert times(storage, "later/cells/*/ood/later/*") == before

    # A detector that comes later scores the sets, too, once they are named again.
    assert main(["later", "--detectors", "energy", *sets, *places]) == 0
    for label, cell in added.items():
        record = json.loads((cell / "ood" / "later" / "noise.json").read_text())
        assert ("ood/noise/ap_energy" in record["metrics"]) == label.startswith("classification")
    capsys.readouterr()
    Image.fromarray(noise(99, 8)).save(pictures / "00.png")
    assert main(["later", *sets, *places]) == 2
    assert "The image set 'noise' has other images" in capsys.readouterr().err
    assert main(["later", *places]) == 2
    assert "nothing to add" in capsys.readouterr().err

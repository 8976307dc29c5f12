"""The command that flags new images, as a person runs it, on small real sweeps."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.cli.sweep_options import read_request
from orchestrator.ledger.digest import seal
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.request import draft
from orchestrator.planning.specification import read_stored
from orchestrator.predict import main
from orchestrator.prediction.contact_sheet import MARK, PLAIN
from orchestrator.sweep import main as sweep
from tests.images import noise, write_digits
from tests.sweeps import cells, run

SETTINGS = ("epochs=3", "ap_window=1", "image_size=8", "depth=10", "width=1", "flip=false", "sweep_seed=4")


@pytest.fixture(scope="module")
def swept_once(_own_home: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and a storage with the sweep "all", and with "held" of two holdouts alone."""
    folder = tmp_path_factory.mktemp("predicted")
    write_digits(folder / "images")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    common = ["image-folder", "--data", str(folder / "images"), "--storage", str(folder / "runs")]
    common += ["--executor", "inline", "--set", *SETTINGS]
    methods = ["--methods", "classification", "rotation", "--aux-weight", "0.5", "--seeds", "1"]
    assert sweep([*common, *methods, "--holdouts", "none", "three", "--name", "all"]) == 0
    light = ["--methods", "classification", "edge-energy", "--seeds", "2", "--holdouts", "one"]
    assert sweep([*common, *light, "--name", "held"]) == 0
    monkeypatch.undo()
    return folder


@pytest.fixture
def folder(swept_once: Path, tmp_path: Path) -> Path:
    """A copy of it, where the data stays where it is."""
    shutil.copytree(swept_once, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(autouse=True)
def _without_ray_and_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)


def predict(folder: Path, *more: str, name: str = "all", images: Sequence[str | Path] = ()) -> int:
    named = list(map(str, images or [folder / "images" / "test"]))
    return main([name, "--images", *named, "--storage", str(folder / "runs"), *more])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def recorded(folder: Path, label: str, name: str = "all") -> tuple[Path, pa.Table]:
    cell = cells(folder / "runs" / name)[label]
    return cell, pq.read_table(cell / "scores.parquet")


@pytest.mark.parametrize("detector", ["msp", "odin"])
def test_images_of_the_test_split_are_scored_as_the_sweep_scored_them(
    folder: Path, capsys: pytest.CaptureFixture[str], detector: str
) -> None:
    assert predict(folder, "--method", "classification", "--holdout", "three", "--detector", detector) == 0
    found = capsys.readouterr()
    rows = {row["file"].split("/images/")[1]: row for row in rows_of(found.out)}
    table = recorded(folder, "classification/three/s0")[1].to_pandas().set_index("file")
    assert rows.keys() == set(table.index)
    assert len(rows) == 80
    kept = np.sort(table[~table["is_anomaly"]][detector])
    threshold = kept[math.ceil(61 * 0.95) - 1]
    classes = ["eight", "one", "seven"]
    flags = {}
    for file, row in rows.items():
        expected = table.loc[file]
        assert float(row["score"]) == pytest.approx(expected[detector], abs=1e-9)
        assert row["predicted"] == classes[int(np.argmax(expected["logits"]))]
        # A score that sets the threshold may be rounded to either side of it when it is computed again.
        if abs(expected[detector] - threshold) > 1e-9:
            assert (row["flagged"] == "true") == (expected[detector] > threshold), file
        flags[file] = expected[detector] > threshold
    assert "number 58, from the smallest on, of the scores of the 60 test images" in found.err
    caught = sum(flags[file] for file in table.index[table["is_anomaly"]])
    said = f"of the 20 test images of the class 'three', which this network never saw, it flags {caught} "
    assert said in found.err


def test_a_detector_that_learns_is_fitted_to_the_training_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(folder, "--method", "rotation", "--detector", "knn") == 0
    found = capsys.readouterr()
    assert re.search(
        r"no scores by knn yet of 1 network with a class held out: \S+ -m orchestrator.score all", found.err
    )
    rows = rows_of(found.out)
    assert len(rows) == 80
    assert len({row["score"] for row in rows}) > 70
    assert 0 < sum(row["flagged"] == "true" for row in rows) <= 80 * 0.05


def test_without_a_held_out_class_it_says_what_the_others_caught(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(folder, "--method", "classification", "--false-alarms", "0.2") == 0
    said = capsys.readouterr().err
    assert "classification/none/s0 of the sweep all, which knows 4 classes; detector: msp." in said
    assert "its threshold was never checked on images of a class that it does not know" in said
    table = recorded(folder, "classification/three/s0")[1].to_pandas()
    kept = np.sort(table[~table["is_anomaly"]]["msp"])
    share = (table[table["is_anomaly"]]["msp"] > kept[math.ceil(61 * 0.8) - 1]).mean()
    assert f"with a class held out flagged {share:.1%} of that class's test images" in said


def test_the_method_with_the_best_report_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aps = {}
    for method in ("classification", "rotation"):
        cell, _ = recorded(folder, f"{method}/three/s0")
        aps[method] = json.loads((cell / "result.json").read_text())["values"]["final/ap_msp"]
    best = max(aps, key=lambda method: aps[method])
    assert predict(folder) == 0
    assert f"Network: {best}/none/s0" in capsys.readouterr().err


def test_table_and_sheet_are_written_and_images_that_cannot_be_read_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for number in range(12):
        Image.fromarray(noise(number, 20 + number)).save(new / f"{number:02d}.jpg")
    shutil.copy(folder / "images" / "test" / "one" / "50.png", new / "one, \n.png")
    (new / "broken.png").write_bytes(b"nothing")
    readable = [*(f"{number:02d}.jpg" for number in range(12)), "one, \n.png"]
    output = new / "out.csv"
    for _ in range(2):  # the sheet, an image among the others by then, is no image to look at
        assert predict(folder, "--output", str(output), "--false-alarms", "0.1", images=[new]) == 1
        found = capsys.readouterr()
        assert f"Left out {new / 'broken.png'}, which cannot be read: it is none of PNG" in found.err
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["file"] for row in rows] == sorted(str(new / name) for name in readable)
        flagged = sum(row["flagged"] == "true" for row in rows)
        assert f"Flagged: {flagged} of 13 images." in found.out
    with Image.open(new / "out.png") as sheet:
        colours = set(sheet.crop((12, 0, 13, sheet.height)).getdata())
        colours |= set(sheet.crop((12 + 2 * 122, 0, 13 + 2 * 122, sheet.height)).getdata())
    first, last = (tuple(bytes.fromhex(colour[1:])) for colour in (MARK, PLAIN))
    assert 0 < flagged < 13
    assert {first, last} <= colours


def test_it_needs_the_ledger_alone(swept_once: Path, tmp_path: Path) -> None:
    """Neither Ray nor MLflow, nor the sweep's data, if the detector works on logits."""
    shutil.copytree(swept_once / "runs", tmp_path / "runs")
    sweep_json = tmp_path / "runs" / "all" / "sweep.json"
    content = json.loads(sweep_json.read_text())
    content["data"] = str(tmp_path / "gone")
    write_json(sweep_json, content)
    image = swept_once / "images" / "test" / "one" / "50.png"
    words = ["all", "--images", image, "--storage", tmp_path / "runs"]
    done = run(*words, blocked=True, module="orchestrator.predict")
    assert done.returncode == 0, done.stderr
    assert [row["file"] for row in rows_of(done.stdout)] == [str(image)]


def write_json(path: Path, content: dict) -> None:
    """Write a file of a ledger as a whole one."""
    path.write_bytes(seal({name: value for name, value in content.items() if name != "digest"}))


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        (
            "held",
            [],
            "say with --holdout which one may be missing, out of one, or sweep --holdouts none",
        ),
        ("held", ["--holdout", "two"], "There is no holdout in the sweep 'held' called 'two'"),
        ("held", ["--holdout", "one", "--seed", "7"], "give --seed out of 0, 1."),
        ("held", ["--holdout", "one", "--method", "edge-energy"], "no method that trained a network"),
        (
            "all",
            ["--method", "cpc"],
            "method that trained a network 'cpc'; valid: classification, rotation",
        ),
        ("all", ["--detector", "mps"], "There is no detector 'mps'. Did you mean 'msp'?"),
        ("all", ["--false-alarms", "0.01"], "takes at least 99 images on which the network was not trained"),
        ("all", ["--false-alarms", "1"], "--false-alarms 1 is not valid: give a share above 0 and below 1"),
        (
            "all",
            ["--output", "x.png"],
            "--output x.png is not valid: give the name of a file that ends",
        ),
        ("all", ["--output", "nowhere/x.csv"], "nowhere/x.csv cannot be written: name a file in a folder"),
        ("all", ["--images", "nowhere"], "nowhere does not exist: name files of images, or folders"),
        ("none", [], "none"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    swept_once: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str], said: str
) -> None:
    assert predict(swept_once, *words, name=name) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert found.err.startswith("Error: ")
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_a_folder_without_a_readable_image_is_refused(
    swept_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert predict(swept_once, images=[tmp_path]) == 2
    assert f"None of the images can be read, such as {tmp_path / 'a.png'} (it is" in capsys.readouterr().err


def test_without_weights_it_gives_the_command_that_trains_the_same_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, _ = recorded(folder, "rotation/three/s0")
    result = json.loads((cell / "result.json").read_text())
    del result["weights"]
    write_json(cell / "result.json", result)
    assert predict(folder, "--method", "rotation", "--holdout", "three") == 2
    said = capsys.readouterr().err
    assert "kept no weights of rotation/three/s0" in said
    line = shlex.split(said.split("in a sweep that keeps them: ")[1])
    assert line[1:3] == ["-m", "orchestrator.sweep"]
    request = read_request(line[3:])
    asked, stored = draft(request), read_stored(Ledger(str(folder / "runs"), "all"))
    again = asked.complete("cpu", stored.classes)
    assert (again.recipe, again.sweep_seed) == (stored.specification.recipe, 4)
    assert (again.methods, again.holdouts, again.aux_weights) == (
        ("rotation",),
        ("three",),
        {"rotation": 0.5},
    )
    assert (asked.settings.keep_weights, request.seeds, request.data) == (True, 1, stored.data)

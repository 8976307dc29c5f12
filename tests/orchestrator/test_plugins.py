"""Sweeps with plug-ins: on both executors, killed and resumed, edited, reported, and failing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.report import main as report
from tests.orchestrator.execution.test_resuming import kill_when
from tests.plugins import DETECTOR, TASK, WHOLE
from tests.sweeps import assert_equal_sweeps, cells, command, run

SHADES = ["shades", "--methods", "classification", "negative", "--holdouts", "b", "c", "--seeds", "1"]
SHADES += ["--detectors", "msp", "norm", "--name", "sweep"]
CELLS = 6
INLINE = ["--executor", "inline"]
RESUME = ["--resume", "--name", "sweep", *INLINE]


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    """Write a plug-in outside the storage folder, and return its path."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of an undisturbed sweep; its plug-in left a mark, and the file is gone."""
    storage = tmp_path_factory.mktemp("swept")
    file = write(tmp_path_factory.mktemp("file"), WHOLE)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PLUGIN_MARK", str(storage / "mark"))
        done = run(*SHADES, *INLINE, "--plugin", file, "--storage", storage, blocked=True)
    assert done.returncode == 0, done.stdout + done.stderr
    file.unlink()
    return storage


def test_a_detector_a_task_and_a_benchmark_are_all_in_use(swept: Path) -> None:
    found = cells(swept / "sweep")
    assert len(found) == CELLS
    scores = pq.read_table(found["negative/b/s0"] / "scores.parquet")
    assert len(scores) == 80
    assert scores["is_anomaly"].to_pylist().count(True) == 20
    norms = scores["norm"].to_numpy()
    assert (norms < 0).all()
    assert len(set(norms)) > 40
    curves = pq.read_table(found["negative/b/s0"] / "curves.parquet").to_pylist()
    assert all(0 < row["aux/negative_loss"] < 10 for row in curves)
    assert (swept / "mark").read_text() == "executed\n", "once by the one process"


def test_its_source_is_in_the_ledger(swept: Path) -> None:
    (copy,) = (swept / "sweep" / "plugins").iterdir()
    assert copy.read_text() == WHOLE
    sweep = json.loads((swept / "sweep" / "sweep.json").read_text())
    assert sweep["plugins"] == {"mine.py": copy.stem}
    assert sweep["specification"]["plugins"] == {"shades": copy.stem, "negative": copy.stem}
    assert sweep["detectors"]["norm"] == {"label": "Norm", "windowed": False}


@pytest.mark.slow
def test_ray_gives_the_same_results(swept: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed on this system")
    file = write(tmp_path / "file", WHOLE)
    done = run(*SHADES, "--plugin", file, "--storage", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_equal_sweeps(swept / "sweep", tmp_path / "sweep")


def test_a_killed_sweep_goes_on_without_the_file(swept: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "file", WHOLE)
    words = [*SHADES, *INLINE, "--plugin", file, "--storage", tmp_path]
    kill_when(command(*words, blocked=True), tmp_path, "*/cells/*/result.json")
    assert 1 <= len(cells(tmp_path / "sweep")) < CELLS
    file.unlink()
    done = run(*RESUME, "--storage", tmp_path, blocked=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (copy,) = (tmp_path / "sweep" / "plugins").iterdir()
    said = "The sweep's plug-ins are code that runs here, as its ledger holds it: mine.py"
    assert f"{said} ({copy.stem[:8]}).\n" in done.stdout
    assert_equal_sweeps(swept / "sweep", tmp_path / "sweep")


def test_a_report_is_made_without_executing_it(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLUGIN_MARK", str(tmp_path / "mark"))
    assert report(["sweep", "--storage", str(swept)]) == 0
    assert "AP-Norm (last)" in capsys.readouterr().out
    assert not (tmp_path / "mark").exists()
    shown = run("sweep", "--storage", swept, module="orchestrator.report")
    assert shown.returncode == 0, shown.stderr
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("words", [[*SHADES, *INLINE], RESUME], ids=["the same command", "resumed"])
def test_an_edited_task_or_benchmark_is_another_sweep(swept: Path, tmp_path: Path, words: list) -> None:
    before = {path: path.read_bytes() for path in (swept / "sweep").rglob("*") if path.is_file()}
    file = write(tmp_path, WHOLE.replace("255 - images_NHWC", "254 - images_NHWC"))
    refused = run(*words, "--plugin", file, "--storage", swept, blocked=True)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.endswith(
        "Error: The sweep 'sweep' exists with another specification: the source of a plug-in that it uses. "
        "Choose another --name, or go on with it as it is by --resume --name sweep.\n"
    )
    after = {path: path.read_bytes() for path in (swept / "sweep").rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} <= {swept / "sweep" / "lock"}
    assert len(list((swept / "sweep" / "plugins").iterdir())) == 1


def test_an_edited_or_renamed_detector_trains_nothing_again(tmp_path: Path) -> None:
    words = ["--methods", "classification", "--holdouts", "3", "--seeds", "1", "--detectors", "msp", "norm"]
    words += ["--set", "epochs=2", "ap_window=1", "--storage", tmp_path, *INLINE, "--name", "sweep"]
    first = run(*words, "--plugin", write(tmp_path / "file", DETECTOR), blocked=True)
    assert first.returncode == 0, first.stdout + first.stderr
    (cell,) = cells(tmp_path / "sweep").values()
    files = {path: path.read_bytes() for path in cell.rglob("*") if path.is_file()}
    edited = DETECTOR + "\n\nclass Largest(Norm):\n    name = 'largest'\n"
    for text, name in ((edited, "mine.py"), (edited, "yours.py")):
        done = run(*words, "--plugin", write(tmp_path / "file", text, name), blocked=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 of 1 cells are done" in done.stdout
    (cell,) = cells(tmp_path / "sweep").values()
    assert {path: path.read_bytes() for path in files} == files
    other = write(tmp_path / "file", edited.replace("shorter", "smaller"), "theirs.py")
    refused = run(*RESUME, "--plugin", other, "--storage", tmp_path, blocked=True)
    assert refused.returncode == 2, "edited and renamed: which of the two is meant?"
    assert "the class Norm has the name 'norm', which is taken" in refused.stderr
    last = run(*RESUME, "--storage", tmp_path, blocked=True)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "as its ledger holds it: yours.py (" in last.stdout


# Errors that only a running cell shows


def failures(folder: Path, text: str, *words: str) -> tuple[list[str], dict[str, int], list[str]]:
    """Run a sweep in which cells fail: what is said of each, attempts by label, and the cells that are done.

    Nothing is tried again, and the exit code is 1.
    """
    file = write(folder / "file", text)
    words = (*words, "--seeds", "1", "--set", "epochs=1", "ap_window=1", "--name", "sweep", *INLINE)
    done = run(*words, "--plugin", file, "--storage", folder, blocked=True)
    assert done.returncode == 1, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if "failed (" in line]
    attempts = {}
    for path in (folder / "sweep").glob("cells/*/cell.json"):
        values = json.loads(path.read_text())
        attempts[f"{values['cell']['method']}/{values['cell']['holdout']}"] = values["attempts"]
    return said, attempts, sorted(cells(folder / "sweep"))


def test_a_detector_that_fails_fails_its_cells_once(tmp_path: Path) -> None:
    """A wrong shape, scores that are not finite, an error; the fourth cell is sound."""
    text = DETECTOR.replace(
        "        return -features.norm(dim=1)\n",
        "        Norm.calls = getattr(Norm, 'calls', 0) + 1\n"
        "        scores = -features.norm(dim=1)\n"
        "        if Norm.calls == 3:\n"
        "            raise ValueError('no luck\\nat all')\n"
        "        return [scores[:, None], scores.abs().neg().log(), None, scores][Norm.calls - 1]\n",
    )
    words = ["--methods", "classification", "--holdouts", "0", "1", "2", "3", "--detectors", "norm"]
    said, attempts, done = failures(tmp_path, text, *words)
    line = 1 + text[: text.index("raise ValueError")].count("\n")
    assert said == [
        "classification/0/s0 failed (DetectorFailed: the detector norm returned a tensor of shape (719, 1) "
        "for 719 images: it must return shape (719,)); given up.",
        "classification/1/s0 failed (DetectorFailed: the detector norm gave nan for 719 of 719 images: "
        "every score must be a finite number); given up.",
        f"classification/2/s0 failed (DetectorFailed: the detector norm failed in line {line} of mine.py: "
        "ValueError: no luck); given up.",
    ]
    assert attempts == {f"classification/{digit}": 1 for digit in range(4)}
    assert done == ["classification/3/s0"]


def test_a_task_that_fails_fails_its_cells_once(tmp_path: Path) -> None:
    """Draws and a loss of a wrong kind, an error; the fourth cell and all without the task are sound."""
    text = TASK.replace(
        "        return Judge(network)\n",
        "        Negative.calls = getattr(Negative, 'calls', 0) + 1\n        return Judge(network)\n",
    )
    text = text.replace(
        "        return Draws(",
        "        if Negative.calls == 1:\n            return rows\n        return Draws(",
    )
    text = text.replace(
        "        images = ",
        "        if Negative.calls == 2:\n            return images_NHWC.float()\n"
        "        if Negative.calls == 3:\n            raise ValueError('no luck')\n        images = ",
    )
    words = ["--methods", "classification", "negative", "--aux-weight", "0.5"]
    said, attempts, done = failures(tmp_path, text, *words, "--holdouts", "0", "1", "2", "3")
    line = 1 + text[: text.index("raise ValueError")].count("\n")
    assert len(said) == 3
    assert said[0].startswith(
        "negative/0/s0 failed (TaskFailed: the auxiliary task negative must draw Draws, but drew a tensor"
    )
    assert said[1].startswith(
        "negative/1/s0 failed (TaskFailed: the auxiliary task negative must return its mean loss, a scalar "
        "with a gradient, but returned a tensor of shape (64, 8, 8, 1) without a gradient); given up."
    )
    assert said[2] == (
        f"negative/2/s0 failed (TaskFailed: the auxiliary task negative failed in line {line} of mine.py: "
        "ValueError: no luck); given up."
    )
    assert set(attempts.values()) == {1}
    assert done == [*(f"classification/{digit}/s0" for digit in range(4)), "negative/3/s0"]

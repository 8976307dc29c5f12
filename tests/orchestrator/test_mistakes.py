"""What was asked wrongly gets one sentence and exit code 2, before Ray starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.baseline import main as baseline
from orchestrator.sweep import main
from orchestrator.tracking import tracker
from tests.images import write_digits, write_folder
from tests.sweeps import run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_digits(folder)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.strip().splitlines() if not line.endswith(" ...")]  # steps
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digist"], "no benchmark 'digist'"),
        (["--methods", "rotaton"], "no method 'rotaton'"),
        (["--methods", "cpc"], "digits cannot run the method 'cpc'"),
        (["--holdouts", "11"], "no class to hold out '11'. did you mean '1'? valid: 0, 1"),
        (["--holdouts", "3", "3"], "'3' twice"),
        (["--set", "epoch=3"], "no field 'epoch'"),
        (["--set", "epochs=0"], "epochs=0 is not valid"),
        (["--set", "learning_rate=nan"], "learning_rate=nan is not valid"),
        (["--set", "learning_rate=inf"], "learning_rate=inf is not valid"),
        (["--set", "epochs"], "key=value"),
        (["--seeds", "0"], "--seeds 0 is not valid"),
        (["--seeds", "two"], "--seeds two is not valid"),
        (["--seeds", "99999999999999999999"], "give a whole number from 1 to 10000"),
        (["--dry-run", "--set", "depth=10000000000000000000"], "depth=10000000000000000000 is not valid"),
        (["--storage", "s3://", "--executor", "inline"], "'s3://' names no bucket or folder"),
        (["--aux-weight", "inf"], "--aux-weight inf is not valid"),
        (["--cpus-per-worker", "nan"], "--cpus-per-worker nan is not valid"),
        (["--cpus-per-worker", "1000"], "--cpus-per-worker 1000 is more than this machine has"),
        (["--gpus-per-worker", "1000"], "--gpus-per-worker 1000 is more than this machine has"),
        (["--name", "two words"], "no plain word"),
        (["--name", "../up"], "no plain word"),
        (["--gpus-per-worker", "1.5"], "--gpus-per-worker 1.5 is not valid"),
        (["--gpus-per-worker", "0.5", "--workers", "2"], "does not go with --workers 2"),
        (["--executor", "inline", "--max-concurrent", "2"], "--max-concurrent has no use"),
        (["--executor", "inline", "--address", "auto"], "--address has no use"),
        (["--aux-weight", "0.7", "--methods", "classification"], "--aux-weight has no use"),
        (["--aux-weight", "0.7", "--lambda-trials", "2"], "--lambda-trials has no use beside"),
        (["--set", "lambda.rotation=0.5,1", "--lambda-trials", "2"], "rotation in 0.5,1"),
        (["--methods", "center-mask+rotation", "rotation+center-mask"], "'rotation+center-mask' twice"),
        (["--data", "/nowhere"], "leave --data out"),
        (["--nonsense"], "there is no option --nonsense; see"),
        (["--storage", "nosuch://x"], "nosuch://x"),
        (["--set", "train_fraction=0.001"], "too few"),
    ],
)
def test_mistakes_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str
) -> None:
    storage = [] if "--storage" in words else ["--storage", tmp_path / "runs"]
    assert said.lower() in refused(capsys, *words, *storage).lower()
    assert not (tmp_path / "runs").exists()


def test_mistakes_about_sweeps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--storage", tmp_path / "runs"]
    assert "no sweep 'gone'" in refused(capsys, "--resume", "--name", "gone", *place)
    assert "no sweep" in refused(capsys, "--resume", *place)
    quick = [
        "--seeds",
        "1",
        "--holdouts",
        "3",
        "--methods",
        "classification",
        "--executor",
        "inline",
        "--name",
        "mine",
    ]
    assert main([*map(str, [*quick, *place]), "--set", "epochs=2"]) == 0
    capsys.readouterr()
    said = refused(capsys, *quick, *place, "--set", "epochs=3", "batch_size=32")
    assert "epochs 2 (asked: 3)" in said
    assert "batch_size" in said
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, *quick, "--storage", tmp_path / "file")
    monkeypatch.setattr(tracker, "ANSWER_SECONDS", 1.0)
    said = refused(capsys, *quick, "--storage", tmp_path / "other", "--tracking-uri", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in said


def test_mistakes_about_data(capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path) -> None:
    rest = ["--storage", tmp_path / "runs", "--seeds", "1", "--executor", "inline", "--set", "image_size=8"]
    missing = tmp_path / "missing"
    assert str(missing) in refused(capsys, "image-folder", "--data", missing, *rest)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(capsys, "image-folder", "--data", tmp_path / "empty", *rest)
    single = tmp_path / "single"
    shutil.copytree(images / "train" / "one", single / "train" / "one")
    assert "class" in refused(capsys, "image-folder", "--data", single, *rest)
    assert "no class to hold out 'two'" in refused(
        capsys, "image-folder", "--data", images, "--holdouts", "two", *rest
    )
    cut = images / "train" / "one" / "0.png"
    cut.write_bytes(cut.read_bytes()[:60])
    said = refused(capsys, "image-folder", "--data", images, *rest)
    assert "0.png" in said
    assert "skip_bad_images=true" in said
    words = [
        "--holdouts",
        "three",
        "--methods",
        "classification",
        "--set",
        "epochs=1",
        "skip_bad_images=true",
    ]
    assert main([str(w) for w in ("image-folder", "--data", images, *rest, *words)]) == 0


def test_a_folder_called_none_is_named_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path
) -> None:
    for split in ("train", "test"):
        (images / split / "three").rename(images / split / "none")
    place = ["--executor", "inline", "--storage", tmp_path / "runs", "--set", "image_size=8"]
    for holdouts in ("one", "none"):
        said = refused(capsys, "image-folder", "--data", images, "--holdouts", holdouts, *place)
        assert "has a class 'none'" in said
    assert not (tmp_path / "runs").exists()


def test_more_workers_than_images_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = {"one": 3, "two": 3, "three": 3}
    write_folder(tmp_path / "few", {"train": few, "test": few})
    words = ["--workers", "7", "--storage", tmp_path / "runs", "--set", "image_size=8"]
    said = refused(capsys, "image-folder", "--data", tmp_path / "few", *words)
    assert "7 workers cannot share 6 training images" in said
    assert not (tmp_path / "runs").exists()


def test_a_baseline_s_name_is_not_a_sweep_s(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = ["--storage", tmp_path, "--name", "mine"]
    assert baseline([str(word) for word in ("pixel-gaussian", "digits", "--holdouts", "3", *place)]) == 0
    capsys.readouterr()
    said = refused(capsys, "--executor", "inline", *place)
    assert "'mine' exists with another specification: methods ['pixel-gaussian'] (asked: [" in said


def test_a_sweep_json_of_another_version_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.json").write_text('{"specification": {"benchmark": "digits"}}')
    words = ["--resume", "--name", "mine", "--storage", tmp_path]
    assert "not a sweep of this version" in refused(capsys, *words)
    assert "not a sweep of this version" in refused(capsys, *words, "--dry-run")


def test_without_ray_the_way_that_needs_none_is_named(tmp_path: Path) -> None:
    done = run("--storage", tmp_path / "runs", blocked=True)
    assert done.returncode == 2
    assert "Error: Ray is not installed here" in done.stderr
    assert "--executor inline" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_before_the_first_cell_shows_no_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.planning.sweep.open_data", interrupted)
    assert main(["--storage", str(tmp_path / "runs")]) == 130
    assert capsys.readouterr().err == "Stopped before any cell began.\n"


def test_a_sweep_that_cannot_be_recorded_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    words = ["--executor", "inline", "--tracking-uri", "nosuch://server"]
    for storage in (tmp_path / "made", tmp_path / "kept"):
        assert main([*words, "--storage", str(storage)]) == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "made").exists()
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_a_refused_sweep_leaves_nothing_and_has_not_taken_its_name(tmp_path: Path) -> None:
    place = ["--storage", tmp_path, "--name", "mine", "--holdouts", "3", "--seeds", "1"]
    # Only Ray can tell how many workers there is room for; no cell has begun by then.
    refused_late = run("--workers", "500", *place)
    assert refused_late.returncode == 2
    assert "--workers 500" in refused_late.stderr
    assert refused_late.stdout == ""
    assert not (tmp_path / "mine").exists()
    quick = ["--methods", "classification", "--set", "epochs=1", "--executor", "inline"]
    assert main([str(word) for word in (*place, *quick)]) == 0


def test_a_sweep_of_several_workers_does_not_run_in_one_process(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--workers", "2", "--executor", "inline", "--storage", tmp_path / "runs"]
    assert "2 workers" in refused(capsys, *words)


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
@pytest.mark.parametrize("option", [["--address", "auto"], ["--max-concurrent", "2"]])
def test_options_of_ray_have_no_use_inline(
    capsys: pytest.CaptureFixture[str], option: list[str], extra: list[str]
) -> None:
    assert f"{option[0]} has no use with --executor inline" in refused(
        capsys, "--executor", "inline", *option, *extra
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "9" * 5000], "from 1 to 10000"),
        (["--lambda-trials", "2", "--set", "lambda_trials=7"], "give one of them"),
        (["--resume", "--name", "x", "--storage", "/tmp/" + "a" * 300], "does not answer"),
    ],
)
def test_a_dry_run_s_mistakes_are_sentences_too(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(capsys, *words, "--dry-run")


def test_a_dry_run_of_a_folder_that_will_not_do_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "train" / "only").mkdir(parents=True)
    (tmp_path / "train" / "only" / "0.png").write_bytes(b"")
    said = refused(capsys, "image-folder", "--data", tmp_path, "--dry-run")
    assert "The class 'only' has 1 image" in said

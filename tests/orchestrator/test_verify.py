"""The verify command on real sweeps that were damaged in every way, and what --repair makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.digest import seal
from orchestrator.ledger.interpreter import python
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.report import main as report
from orchestrator.verify import main
from tests.sweeps import ROOT, SMALL, assert_equal_sweeps, cells, command, only_sweep, run

FINAL, SEARCH = "rotation/3/s0", "rotation/3/search0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage folder of a sweep of 12 cells."""
    storage = tmp_path_factory.mktemp("whole")
    done = run(*SMALL, "--executor", "inline", "--storage", storage)
    assert done.returncode == 0, done.stderr
    return storage


@pytest.fixture
def sweep(whole: Path, tmp_path: Path) -> Path:
    """A copy of that sweep: its folder."""
    shutil.copytree(whole, tmp_path / "runs")
    return only_sweep(tmp_path / "runs")


def verify(sweep: Path, *words: str) -> int:
    return main([sweep.name, "--storage", str(sweep.parent), *words])


def findings(sweep: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = verify(sweep, "--json", *words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (1 if found["findings"] else 0)
    return found


def edit(path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool) -> None:
    """Changes a JSON file, with its digest if the change is to look like the project's own."""
    values = json.loads(path.read_text())
    change(values)
    if sealed:
        del values["digest"]
        path.write_bytes(seal(values))
    else:
        path.write_text(json.dumps(values))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sweep_without_fault_has_one_reassuring_line(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    assert verify(sweep) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"All is well with sweep {sweep.name}: 12 of 12 cells are done and there once, ")
    assert "the leak firewall holds, MLflow's 13 runs agree in " in line
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before
    found = findings(sweep, capsys, "--no-tracking")
    # Of 8 final cells 9 values (2 detectors) and 2 accuracies, of 4 search cells their value.
    assert (found["cells"], found["done"], found["numbers"]) == (12, 12, 8 * (2 * 4 + 3) + 4)
    assert (found["runs"], found["notes"]) == (None, ["MLflow was left out."])


def test_it_needs_neither_torch_nor_ray_and_mlflow_only_for_its_records(sweep: Path) -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['ray'] = sys.modules['mlflow'] = None; "
    code += "from orchestrator.verify import main; sys.exit(main(sys.argv[1:]))"
    line = [command()[0], "-c", code, sweep.name, "--storage", str(sweep.parent)]
    asked = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert asked.returncode == 2
    assert "add --no-tracking" in asked.stderr
    left_out = subprocess.run([*line, "--no-tracking"], cwd=ROOT, capture_output=True, text=True)
    assert left_out.returncode == 0, left_out.stderr


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def other_lambda(folder: Path) -> None:
    edit(folder / "result.json", lambda v: v["aux_weights"].update(rotation=9.0), sealed=True)
    edit(folder / "cell.json", lambda v: v["run"]["aux_weights"].update(rotation=9.0), sealed=True)


def opened_test_images(folder: Path) -> None:
    log = {"split": "test", "classes": ["3"], "count": 1, "digest": "d"}
    edit(folder / "cell.json", lambda v: v["opened"].append(log), sealed=True)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "scores": (FINAL, lambda f: flip(f / "scores.parquet"), "damaged", "scores.parquet of {} does not have"),
    "curves": (FINAL, lambda f: cut(f / "curves.parquet"), "damaged", "curves.parquet of {} does not have"),
    "window": (
        FINAL,
        lambda f: (f / "window.parquet").unlink(),
        "damaged",
        "window.parquet of {} is missing",
    ),
    "weights": (FINAL, lambda f: flip(f / "weights.safetensors"), "damaged", "weights.safetensors of {} is"),
    "edited AP": (
        FINAL,
        lambda f: edit(
            f / "result.json", lambda v: v["values"].update({"final/ap_msp": 0.999}), sealed=False
        ),
        "damaged",
        "result.json of {} does not have the digest that it states",
    ),
    "forged AP": (
        FINAL,
        lambda f: edit(f / "result.json", lambda v: v["values"].update({"final/ap_msp": 0.999}), sealed=True),
        "numbers",
        "result.json of {} is wrong: final/ap_msp is 0.999 and should be 0.",
    ),
    "forged value": (
        SEARCH,
        lambda f: edit(f / "result.json", lambda v: v["values"].update(value=0.5), sealed=True),
        "numbers",
        "result.json of {} is wrong: value is 0.5 and should be ",
    ),
    "empty cell.json": (
        SEARCH,
        lambda f: (f / "cell.json").write_text(""),
        "damaged",
        "cell.json of {} is empty",
    ),
    "no cell.json": (FINAL, lambda f: (f / "cell.json").unlink(), "damaged", "cell.json of {} is missing"),
    "no result": (
        FINAL,
        lambda f: (f / "result.json").unlink(),
        "not-done",
        "1 of 12 cells is not done: {}.",
    ),
    "no folder": (FINAL, shutil.rmtree, "not-done", "1 of 12 cells is not done: {}."),
    "cut result": (FINAL, lambda f: cut(f / "result.json"), "damaged", "result.json of {} is not JSON"),
    "record": (
        FINAL,
        lambda f: edit(f / "attempts" / "1.json", lambda v: v.update(gpu_seconds=99.0), sealed=False),
        "damaged",
        "attempts/1.json of {} does not have the digest that it states",
    ),
    "another run": (
        FINAL,
        lambda f: edit(f / "cell.json", lambda v: v["run"]["recipe"].update(width=2), sealed=True),
        "foreign",
        "cell.json of {} describes another run: recipe.width was 2, and the plan says 1.",
    ),
    "lambda": (
        FINAL,
        other_lambda,
        "lambda",
        "{} was trained with lambda rotation 9.0, and the search's values",
    ),
    "leak": (SEARCH, opened_test_images, "leak", "LEAK FIREWALL BROKEN, the results do not count: {} opened"),
    "half-written": (
        FINAL,
        lambda f: (f / "curves.parquet.1.0123.part").write_bytes(b"PAR1"),
        "half-written",
        "1 half-written file of a process that died: cells/",
    ),
    "copy": (
        FINAL,
        lambda f: shutil.copytree(f, f.parent / ("0" * 20)),
        "copy",
        f"cells/{'0' * 20} is a copy of {{}}, whose folder is cells/",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_has_a_sentence_and_what_can_be_mended_a_command(
    sweep: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    label, damage, kind, sentence = DAMAGES[name]
    damage(cells(sweep)[label])
    found = findings(sweep, capsys, "--no-tracking")["findings"]
    (first,) = [each for each in found if each["kind"] == kind]
    assert first["sentence"].startswith(sentence.format(label)), first["sentence"]
    others = {each["kind"] for each in found} - {kind}
    # A damaged cell is not done, and without cell.json nobody knows what it opened.
    assert others <= {"not-done", "leak"}
    if kind == "not-done":
        assert f"-m orchestrator.sweep --resume --name {sweep.name}" in first["command"]
    elif kind != "leak":
        assert f"-m orchestrator.verify {sweep.name} --repair" in first["command"]


def test_findings_are_printed_with_the_commands_that_mend_them(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(cells(sweep)[FINAL] / "scores.parquet")
    assert verify(sweep, "--no-tracking") == 1
    first, *lines, note = capsys.readouterr().out.splitlines()
    places = f"--storage {sweep.parent}"
    assert first == f"2 findings in sweep {sweep.name}, 11 of 12 cells done:"
    assert lines == [
        f"- 1 of 12 cells is not done: {FINAL}.",
        f"- scores.parquet of {FINAL} does not have the checksum that result.json states.",
        f"1 finding mended by: {python()} -m orchestrator.sweep --resume --name {sweep.name} {places}",
        f"1 finding mended by: {python()} -m orchestrator.verify {sweep.name} --repair {places}",
    ]
    assert note == "Note: MLflow was left out."


def test_a_damaged_specification_is_a_finding(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(sweep / "sweep.json", lambda values: values["specification"].update(seeds=3), sealed=False)
    assert verify(sweep, "--no-tracking") == 1
    assert "sweep.json does not have the digest that it states" in capsys.readouterr().out
    assert "digest" in findings(sweep, capsys, "--no-tracking")["findings"][0]["sentence"]


def test_cells_and_files_of_others_are_named_and_not_condemned(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = sweep / "cells" / ("f" * 20)
    shutil.copytree(cells(sweep)[FINAL], foreign)
    edit(foreign / "cell.json", lambda values: values["cell"].update(key="f" * 20), sealed=True)
    (sweep / "notes.txt").write_text("mine")
    assert verify(sweep, "--no-tracking") == 0
    printed = capsys.readouterr().out
    assert f"Note: 1 cell of another specification, which this sweep leaves alone: {'f' * 20}." in printed
    assert "Note: 1 file that no sweep writes: notes.txt." in printed


def test_a_sweep_that_runs_is_checked_as_far_as_it_is(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cells(sweep)[FINAL]
    (folder / "result.json").unlink()
    (folder / "scores.parquet.1.0123.part").write_bytes(b"PAR1")
    with hold(Ledger(str(sweep.parent), sweep.name)):
        found = findings(sweep, capsys)
        assert verify(sweep, "--repair") == 2
    assert found["findings"] == []
    assert found["notes"] == [f"The sweep is running: 1 of 12 cells is not done: {FINAL}."]
    assert "is being run by" in capsys.readouterr().err


def test_what_is_repaired_and_resumed_is_as_if_nothing_had_happened(
    sweep: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = cells(sweep)
    flip(folders["classification/3/s0"] / "scores.parquet")
    (folders["classification/3/s1"] / "weights.safetensors").unlink()
    DAMAGES["forged AP"][1](folders["rotation/8/s0"])
    other_lambda(folders["rotation/8/s1"])
    DAMAGES["forged value"][1](folders["rotation/3/search1"])
    (folders["rotation/3/search0"] / "cell.json").write_text("")
    DAMAGES["half-written"][1](folders["rotation/3/s0"])
    DAMAGES["copy"][1](folders["rotation/3/s0"])
    assert verify(sweep, "--repair") == 1
    printed = capsys.readouterr().out
    assert "Moved aside into" in printed
    assert (
        f"Make the cells again with: {python()} -m orchestrator.sweep --resume --name {sweep.name}" in printed
    )
    resumed = run("--resume", "--name", sweep.name, "--storage", sweep.parent, "--executor", "inline")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_sweeps(sweep, only_sweep(whole))
    assert not list(sweep.rglob("*.part.*")) or (sweep / "damaged").exists()
    assert verify(sweep) == 0, capsys.readouterr().out
    assert "damaged files set aside" in capsys.readouterr().out


def mlflow(sweep: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{sweep.parent}/mlflow.db")


def run_of(client: Any, label: str) -> Any:
    experiments = [each.experiment_id for each in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.mlflow.runName = '{label}'")
    return found


def twin(client: Any, found: Any) -> None:
    client.create_run(found.info.experiment_id, tags=found.data.tags)


RECORDS: dict[str, tuple[str, Callable[[Any, Any], object], str, str]] = {
    "missing": (FINAL, lambda c, r: c.delete_run(r.info.run_id), "missing", "MLflow has no run of {}."),
    "twin": (FINAL, twin, "twins", "MLflow has 2 runs of {}, which should have one."),
    "running": (
        FINAL,
        lambda c, r: c.update_run(r.info.run_id, "RUNNING"),
        "status",
        "MLflow's run of {} is RUNNING and should be FINISHED.",
    ),
    "point": (
        FINAL,
        lambda c, r: c.log_metric(r.info.run_id, "train/loss", 0.25, step=2),
        "surplus",
        "MLflow's run of {} holds what the ledger does not: train/loss at step 2, 0.25.",
    ),
    "same point again": (
        SEARCH,
        lambda c, r: c.log_metric(r.info.run_id, "val/accuracy", r.data.metrics["val/accuracy"], step=3),
        "surplus",
        "MLflow's run of {} holds what the ledger does not: val/accuracy at step 3, ",
    ),
    "tag": (
        FINAL,
        lambda c, r: c.set_tag(r.info.run_id, "attempts", "7"),
        "differs",
        "MLflow's run of {} differs from the ledger: the tag attempts is 7 and should be 1.",
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_mlflow_has_otherwise_is_found_and_mended(
    sweep: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    label, change, kind, sentence = RECORDS[name]
    client = mlflow(sweep)
    change(client, run_of(client, label))
    (found,) = findings(sweep, capsys)["findings"]
    assert found["kind"] == f"mlflow-{kind}"
    assert found["sentence"].startswith(sentence.format(label))
    if name == "twin":
        assert verify(sweep, "--repair") == 1
    elif name in ("running", "tag", "same point again"):
        return
    else:
        assert f"-m orchestrator.report {sweep.name} --rebuild-tracking" in found["command"]
        words = [sweep.name, "--storage", sweep.parent, "--rebuild-tracking"]
        assert report(list(map(str, words))) == 0
    capsys.readouterr()
    assert verify(sweep) == 0, capsys.readouterr().out


def test_records_that_were_lost_are_missed_and_none_are_made(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep.parent / "mlflow.db").unlink()
    found = findings(sweep, capsys)["findings"]
    assert found[0]["sentence"].startswith("MLflow has no run of 13 of the cells that are done: ")
    assert not (sweep.parent / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "There is no sweep 'gone'"),
        (["../mine"], "no plain word"),
        (["gone", "--no-tracking", "--tracking-uri", "sqlite:///x"], "has no use with --no-tracking"),
    ],
)
def test_mistakes_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main([*words, "--storage", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err

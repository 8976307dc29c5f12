"""MLflow's records of a ledger: what is written, that nothing is written twice, and servers that are away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.planning.cells import Cells
from orchestrator.planning.specification import GROWING, Specification
from orchestrator.reporting.report import make_report
from orchestrator.sweep import main
from orchestrator.tracking import tracker as tracker_module
from orchestrator.tracking.records import Summary
from orchestrator.tracking.tracker import Tracker, open_tracker
from tests.hand_made_ledger import (
    curve_rows,
    final_values,
    finish,
    finish_all,
    plain_value,
    specification,
    write_sweep,
)
from trainables.mistake import Mistake


class Sweep:
    """A sweep of digits 3 and 8 in a ledger, with a tracker for it."""

    def __init__(self, storage: Path, **changes: object) -> None:
        self.storage = storage
        self.wanted: Specification = specification(seeds=1, lambda_trials=2, **changes)
        self.ledger: Ledger
        self.cells: Cells
        self.ledger, self.cells = write_sweep(storage, self.wanted)
        self.uri = f"sqlite:///{storage}/mlflow.db"

    def tracker(self, uri: str | None = None) -> Tracker:
        tracker = Tracker(uri or self.uri, self.ledger, self.wanted, self.cells.all())
        tracker.connect()
        return tracker

    def runs(self, uri: str | None = None) -> dict[str, Run]:
        client = MlflowClient(uri or self.uri)
        experiments = [client.get_experiment_by_name(name) for name in ("digits", "digits-search")]
        return {run.info.run_name: run for run in client.search_runs([e.experiment_id for e in experiments])}

    def history(self, label: str, metric: str) -> list[tuple[int, float]]:
        run = self.runs()[label].info.run_id
        return [(p.step, p.value) for p in MlflowClient(self.uri).get_metric_history(run, metric)]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def told(**metrics: float) -> Summary:
    """What a report says, with these metrics."""
    return Summary(
        metrics, ["final/ap_msp", "final/test_accuracy"], "| held out | AP-MSP |", "AP-MSP: rotation 35.00%"
    )


def test_a_cell_s_run_holds_its_params_its_curves_and_its_values(sweep: Sweep) -> None:
    for cell in sweep.cells.all():
        finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()
    for cell in sweep.cells.all():
        tracker.done(cell.key)
    tracker.summarise(told(**{"mean/rotation/ap_msp": 0.35}), {"table.md": b"# \xc2\xb1"}, finished=True)
    assert tracker.close(timeout=60)
    runs = sweep.runs()
    assert len(runs) == len(sweep.cells.all()) + 1
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    final = runs["rotation/3/s0"].data
    expected = {
        "benchmark": "digits",
        "method": "rotation",
        "holdout": "3",
        "seed": "0",
        "aux_weight": "0.4",
        "epochs": str(sweep.wanted.recipe.epochs),
        "world_size": "1",
    }
    assert expected.items() <= final.params.items()
    (cell,) = [c for c in sweep.cells.all() if c.label == "rotation/3/s0"]
    tags = {"kind": "final", "sweep": "mine", "cell": cell.key, "attempts": "1"}
    tags["ledger"] = sweep.ledger.identity()
    assert tags.items() <= final.tags.items()
    reported = final_values(cell, plain_value, 0.1)
    assert {k: v for k, v in final.metrics.items() if k.startswith("final/")} == reported
    assert final.tags["mlflow.runColor"] == runs["rotation/8/s0"].data.tags["mlflow.runColor"]
    assert final.tags["mlflow.runColor"] != runs["classification/3/s0"].data.tags["mlflow.runColor"]
    inputs = runs["rotation/3/s0"].inputs.dataset_inputs
    assert {each.tags[0].value: each.dataset.name for each in inputs} == {
        "train": "digits train",
        "test": "digits test",
    }
    assert [json.loads(each.dataset.profile)["num_rows"] for each in inputs] == [90, 20]
    note = runs["mine"].data.tags["mlflow.note.content"]
    assert note == "**Sweep mine**\n\n| held out | AP-MSP |"
    experiment = MlflowClient(sweep.uri).get_experiment_by_name("digits")
    view = json.loads(experiment.tags["mlflow.sharedViewState.mine"])
    assert sweep.ledger.identity() in view["searchFilter"]
    assert_note(experiment, ": 4 of 4 cells done. AP-MSP: rotation 35.00%")
    assert_note(MlflowClient(sweep.uri).get_experiment_by_name("digits-search"), ": 4 of 4 cells done")
    search = runs["rotation/8/search1"].data
    assert search.params["search_index"] == "1"
    assert search.params["aux_weight"] == "0.2"
    assert "seed" not in search.params
    assert not [name for name in search.metrics if name.startswith(("test/", "ap/", "final/"))]
    assert (final.metrics["cost/attempts"], final.metrics["cost/gpu_hours"]) == (1, 0)
    assert runs["rotation/8/search1"].data.metrics["cost/attempts"] == 1
    # The end is the ledger's, whenever the records are written.
    assert runs["rotation/3/s0"].info.end_time == 1_000_000
    assert runs["classification/3/s0"].data.params["aux_weight"] == "0"
    assert runs["mine"].data.metrics == {"mean/rotation/ap_msp": 0.35}
    assert runs["mine"].data.params["lambda_trials"] == "2"
    client = MlflowClient(sweep.uri)
    artifacts = [file.path for file in client.list_artifacts(runs["mine"].info.run_id)]
    assert artifacts == ["table.md"]
    assert Path(client.download_artifacts(runs["mine"].info.run_id, "table.md")).read_text() == "# ±"


def assert_note(experiment: Experiment, end: str) -> None:
    """The experiment's note has one line of a sweep, which leads to its page."""
    (line,) = [each for each in experiment.tags["mlflow.note.content"].splitlines() if each.startswith("- ")]
    assert line.startswith("- [**mine**](#/experiments/")
    assert "viewStateShareKey=mine&" in line
    assert line.endswith(end)


def test_an_experiment_s_note_keeps_a_person_s_words_and_other_sweeps(sweep: Sweep) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(sweep.storage, wanted, name="yours")
    finish(ledger, wanted, cells.all()[0])
    finish_all(sweep.ledger, sweep.wanted, sweep.cells)
    client = MlflowClient(sweep.uri)
    for again in (False, True):
        for tracker in (
            Tracker(sweep.uri, sweep.ledger, sweep.wanted, sweep.cells.all()),
            Tracker(sweep.uri, ledger, wanted, cells.all()),
        ):
            tracker.connect()
            tracker.summarise(told(), {}, finished=True)
            assert tracker.close(timeout=60)
        experiment = client.get_experiment_by_name("digits")
        note = experiment.tags["mlflow.note.content"]
        assert note.startswith("Please ask Ada.\n\n") == again
        assert [each.partition("]")[0] for each in note.splitlines() if each.startswith("- ")] == [
            "- [**yours**",
            "- [**mine**",
        ]
        assert ": 1 of 2 cells done. AP-MSP" in note
        client.set_experiment_tag(
            experiment.experiment_id, "mlflow.note.content", f"Please ask Ada.\n\n{note}"
        )
    assert "yours" not in client.get_experiment_by_name("digits-search").tags["mlflow.note.content"]


def test_sending_again_makes_no_second_point_and_no_second_run(sweep: Sweep) -> None:
    cell = sweep.cells.all()[0]
    finish(sweep.ledger, sweep.wanted, cell)
    for _ in range(2):  # the second process does not know what the first one sent
        tracker = sweep.tracker()
        tracker.done(cell.key)
        tracker.done(cell.key)
        assert tracker.close(timeout=60)
    epochs = sweep.wanted.recipe.epochs
    assert [step for step, _ in sweep.history(cell.label, "train/loss")] == list(range(1, epochs + 1))
    assert len(sweep.runs()) == 1


def test_a_running_cell_is_shown_as_far_as_the_ledger_holds_it(sweep: Sweep) -> None:
    cell = sweep.cells.all()[0]
    attempt = sweep.ledger.begin(cell.key, {"cell": {}})
    curves = curve_rows(sweep.wanted, cell, final_values(cell, plain_value, 0.1))
    sweep.ledger.write_checkpoint(cell.key, 3, attempt, b"state")
    sweep.ledger.write_curves(cell.key, attempt, curves)  # all of them, as just before the result
    tracker = sweep.tracker()
    tracker.progressed(cell.key)
    assert tracker.close(timeout=60)
    assert sweep.runs()[cell.label].info.status == "RUNNING"
    # Epochs that no checkpoint holds may be trained again.
    assert [step for step, _ in sweep.history(cell.label, "train/loss")] == [1, 2, 3]
    finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()  # the driver died; the next one finds the run by its tags
    assert sweep.runs()[cell.label].info.status == "KILLED"
    tracker.done(cell.key)
    assert tracker.close(timeout=60)
    run = sweep.runs()[cell.label]
    assert run.info.status == "FINISHED"
    assert run.data.tags["attempts"] == "2"
    assert len(sweep.history(cell.label, "train/loss")) == sweep.wanted.recipe.epochs


def test_a_driver_that_is_stopped_leaves_no_run_running(sweep: Sweep) -> None:
    cell, done, *_ = sweep.cells.all()
    attempt = sweep.ledger.begin(cell.key, {"cell": {}})
    curves = curve_rows(sweep.wanted, cell, final_values(cell, plain_value, 0.1))
    sweep.ledger.write_checkpoint(cell.key, 2, attempt, b"state")
    sweep.ledger.write_curves(cell.key, attempt, curves)
    sweep.ledger.begin(done.key, {"cell": {}})
    tracker = sweep.tracker()
    tracker.progressed(cell.key)
    tracker.progressed(done.key)
    finish(sweep.ledger, sweep.wanted, done)  # its process ended before the driver heard of it
    sweep.ledger.write_checkpoint(cell.key, 3, attempt, b"state")
    tracker.interrupted()
    assert tracker.close(timeout=60)
    statuses = {label: run.info.status for label, run in sweep.runs().items()}
    assert statuses == {cell.label: "KILLED", done.label: "FINISHED"}
    assert [step for step, _ in sweep.history(cell.label, "train/loss")] == [1, 2, 3]
    tracker = sweep.tracker()
    tracker.progressed(cell.key)
    assert tracker.close(timeout=60)
    assert sweep.runs()[cell.label].info.status == "RUNNING"


def test_another_ledger_of_the_same_name_has_runs_of_its_own(sweep: Sweep, tmp_path: Path) -> None:
    """As after its folder was removed, or from another storage with the same server."""
    again = Sweep(tmp_path / "elsewhere")
    cell = sweep.cells.all()[0]
    for each, value in ((sweep, 0.3), (again, 0.4)):
        finish(each.ledger, each.wanted, cell, value=lambda *_, value=value: value)
        tracker = each.tracker(sweep.uri)
        tracker.done(cell.key)
        assert tracker.close(timeout=60)
    client = MlflowClient(sweep.uri)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.data.metrics["final/ap_msp"] for run in runs) == [0.3, 0.4]
    for run in runs:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps == list(range(1, sweep.wanted.recipe.epochs + 1))


OPEN_STORE = """
import sys
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.planning.request import Request, draft
from orchestrator.tracking.tracker import open_tracker
wanted = draft(Request()).complete("cpu", tuple("0123456789"))
tracker = open_tracker(f"sqlite:///{sys.argv[1]}/mlflow.db", Ledger(sys.argv[1], sys.argv[2]), wanted)
assert tracker.close(60)
"""


def test_two_sweeps_that_open_a_new_store_at_once_both_succeed(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN_STORE, str(tmp_path), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    errors = [process.communicate(timeout=600)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)


def test_a_cell_that_failed_on_every_attempt_can_finish_later(sweep: Sweep) -> None:
    cell = sweep.cells.all()[0]
    tracker = sweep.tracker()
    tracker.failed(cell.key)
    assert tracker.close(timeout=60)
    assert sweep.runs()[cell.label].info.status == "FAILED"
    finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()
    tracker.done(cell.key)
    assert tracker.close(timeout=60)
    assert [run.info.status for run in sweep.runs().values()] == ["FINISHED"]


def test_records_that_a_dead_driver_did_not_send_follow(sweep: Sweep) -> None:
    sent, unsent, *_ = sweep.cells.all()
    for cell in (sent, unsent):
        finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()
    tracker.done(sent.key)
    assert tracker.close(timeout=60)
    tracker = sweep.tracker()
    tracker.catch_up([sent.key, unsent.key])
    assert tracker.close(timeout=60)
    assert {run.info.status for run in sweep.runs().values()} == {"FINISHED"}
    assert set(sweep.runs()) == {sent.label, unsent.label}


def test_a_record_that_mlflow_refuses_does_not_block_the_others(sweep: Sweep) -> None:
    first, second, *_ = sweep.cells.all()
    for cell in (first, second):
        finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()
    tracker.done(first.key)
    assert tracker.close(timeout=60)
    tracker = sweep.tracker()
    client = MlflowClient(sweep.uri)
    client.delete_run(sweep.runs()[first.label].info.run_id)  # in MLflow's page, while the sweep runs
    tracker.done(first.key)
    tracker.done(second.key)
    assert tracker.close(timeout=60)
    assert len(tracker.refusals) == 1
    assert sweep.runs()[second.label].info.status == "FINISHED"


def test_a_deleted_experiment_is_a_mistake(sweep: Sweep) -> None:
    assert sweep.tracker().close(timeout=60)
    client = MlflowClient(sweep.uri)
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    with pytest.raises(Mistake, match="was deleted"):
        sweep.tracker()


def test_a_cell_without_cell_json_is_given_no_lambda_yet(sweep: Sweep) -> None:
    cell = next(c for c in sweep.cells.all() if c.label == "rotation/3/s0")
    tracker = sweep.tracker()
    tracker.failed(cell.key)
    assert tracker.close(timeout=60)
    assert "aux_weight" not in sweep.runs()[cell.label].data.params
    finish(sweep.ledger, sweep.wanted, cell)
    tracker = sweep.tracker()
    tracker.done(cell.key)
    assert tracker.close(timeout=60)
    assert sweep.runs()[cell.label].data.params["aux_weight"] == "0.4"


def test_several_weights_are_params_of_their_own(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    cell = next(c for c in sweep.cells.all() if c.label == "rotation/3/s0")
    about = {"cell": {}, "run": {"aux_weights": {"rotation": 0.5, "cpc": 10.0}}}
    sweep.ledger.begin(cell.key, about)
    tracker = sweep.tracker()
    tracker.progressed(cell.key)
    assert tracker.close(timeout=60)
    params = sweep.runs()[cell.label].data.params
    assert (params["aux_weight.rotation"], params["aux_weight.cpc"]) == ("0.5", "10.0")
    assert "aux_weight" not in params


def test_the_run_of_a_sweep_that_grew_says_what_its_means_are_over(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    stages = [
        {"seeds": 1, "holdouts": ("3",), "methods": ("classification",)},
        {"seeds": 2, "holdouts": ("3", "8"), "methods": ("classification", "rotation")},
    ]
    grown = []
    for changes in stages:
        wanted = specification(lambda_trials=2, **changes)
        ledger, cells = write_sweep(tmp_path, wanted)
        finish_all(ledger, wanted, cells)
        tracker = open_tracker(uri, ledger, wanted, cells.all())
        assert tracker is not None
        tracker.summarise(make_report(ledger).summary(), {}, finished=True)
        assert tracker.close(timeout=60)
        assert tracker.refusals == []
        client = MlflowClient(uri)
        (summary,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        grown.append({name: summary.data.tags[name] for name in GROWING})
    assert grown == [
        {"seeds": "1", "holdouts": "3", "methods": "classification"},
        {"seeds": "2", "holdouts": "3 8", "methods": "classification rotation"},
    ]
    assert {"std/classification/ap_msp", "mean/rotation/ap_msp"} <= summary.data.metrics.keys()


def test_without_mlflow_there_is_no_tracker(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert open_tracker(sweep.uri, sweep.ledger, sweep.wanted) is None


def test_without_mlflow_a_sweep_on_ray_is_refused_before_any_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(["--storage", str(tmp_path), "--name", "mine"]) == 2
    error = capsys.readouterr().err
    assert "\nError: MLflow is not installed here" in error
    assert "--executor inline" in error
    assert not (tmp_path / "mine" / "sweep.json").exists()


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_driver_that_the_uri_needs_and_that_is_missing_is_a_mistake_before_any_cell(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    uri = "postgresql+psycopg://u:p@127.0.0.1:1/x"
    words = ["--storage", str(tmp_path), "--name", "mine", "--executor", executor, "--tracking-uri", uri]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"The tracking URI {masked(uri)} needs the Python module psycopg" in error
    assert "MLflow is not installed" not in error
    assert not (tmp_path / "mine" / "sweep.json").exists()


def test_a_missing_module_that_artifacts_need_does_not_delay_the_end(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    tracker = sweep.tracker()
    tracker.summarise(told(), {"table.md": b""}, finished=True)
    assert tracker.close(timeout=20)
    assert tracker.refusals == ["No module named 'boto3'"]


def test_closing_with_records_left_leaves_no_thread_running(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("the server is away")

    before = set(threading.enumerate())
    tracker = sweep.tracker()
    monkeypatch.setattr(MlflowClient, "create_run", refuse)
    for cell in sweep.cells.all():
        tracker.done(cell.key)
    assert not tracker.close(timeout=0.5)
    assert set(threading.enumerate()) <= before  # threads of other tests may end meanwhile


@pytest.mark.parametrize("listens", [True, False])
def test_a_server_that_does_not_answer_is_a_mistake_after_a_stated_wait(
    listens: bool, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracker_module, "SAY_SECONDS", 0.5)
    monkeypatch.setattr(tracker_module, "ANSWER_SECONDS", 2.0)
    with socket.socket() as silent:  # takes connections and never answers, or does not even listen
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(Mistake) as mistake:
            sweep.tracker(f"http://me:secret@127.0.0.1:{port}")
    assert time.monotonic() - began < 15
    assert f"http://me:***@127.0.0.1:{port} does not answer within 2 s" in str(mistake.value)
    printed = capsys.readouterr().err
    assert printed.startswith(f"Waiting up to 2 s for the tracking server http://me:***@127.0.0.1:{port}")
    assert "secret" not in f"{printed}{mistake.value}"


class Server:
    """An MLflow server on a port of its own, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--port", str(self.port)]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        limit = time.monotonic() + 90
        while time.monotonic() < limit:
            try:
                MlflowClient(self.uri).search_experiments()
                return
            except Exception:  # it is still starting
                time.sleep(0.5)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    running = Server(tmp_path)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.mark.slow
def test_records_follow_once_a_server_that_was_away_is_back(
    sweep: Sweep, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    first, *others = sweep.cells.all()
    finish(sweep.ledger, sweep.wanted, first)
    tracker = sweep.tracker(server.uri)
    tracker.done(first.key)
    time.sleep(3)
    server.stop()
    for cell in others:
        finish(sweep.ledger, sweep.wanted, cell)
        tracker.done(cell.key)
    time.sleep(10)
    server.start()
    tracker.summarise(told(**{"mean/classification/ap_msp": 0.5}), {"table.md": b"mine"}, finished=True)
    assert tracker.close(timeout=90)
    assert capfd.readouterr().out == "", "what a person reads is the sweep's own"
    runs = sweep.runs(server.uri)
    artifacts = MlflowClient(server.uri).list_artifacts(runs[sweep.ledger.name].info.run_id)
    assert [file.path for file in artifacts] == ["table.md"]
    assert sorted(runs) == sorted([sweep.ledger.name, *(cell.label for cell in sweep.cells.all())])
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_server_that_stays_away_does_not_delay_the_end(sweep: Sweep, server: Server) -> None:
    tracker = sweep.tracker(server.uri)
    server.stop()
    cell = sweep.cells.all()[0]
    finish(sweep.ledger, sweep.wanted, cell)
    tracker.done(cell.key)
    began = time.monotonic()
    assert not tracker.close(timeout=60)
    assert time.monotonic() - began < 30


def test_what_a_database_refuses_is_raised_and_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    from mlflow.exceptions import MlflowException

    from orchestrator.tracking.client import import_client

    client = import_client()(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run("0").info.run_id
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("alter table runs rename to gone")
    capsys.readouterr()
    with pytest.raises(MlflowException, match="no such table: runs"):
        client.set_terminated(run)
    assert capsys.readouterr().err == ""

"""One run per cell in MLflow, with each point once, behind a proxy that loses, holds and fails requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cell, Cells
from orchestrator.planning.specification import Specification
from orchestrator.report import main as report
from orchestrator.reporting.report import make_report
from orchestrator.tracking import client, retry_queue
from orchestrator.tracking import tracker as tracker_module
from orchestrator.tracking.tracker import Tracker
from tests.hand_made_ledger import curve_rows, final_values, finish, plain_value, specification, write_sweep
from tests.mlflow_proxy import (
    DROP,
    FAIL_AFTER,
    FAIL_BEFORE,
    HANG,
    HOLD,
    LOG,
    STALL,
    UPDATE,
    Fault,
    Proxy,
    Server,
    await_true,
)
from tests.mlflow_records import assert_exactly_once, runs_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    between = Proxy(server.uri)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up early, so that requests need not be held for long."""
    monkeypatch.setattr(retry_queue, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(tracker_module, "SHORTEST_TIMEOUT", 1)
    monkeypatch.setattr(tracker_module, "LONGEST_TIMEOUT", 2)
    monkeypatch.setattr(tracker_module, "DOUBT_SECONDS", 4.0)
    monkeypatch.setitem(client.CLIENT_SETTINGS, client.TIMEOUT, "20")


FINISHED_AT = 1_000_000
"""When the cells that are written by hand were finished, in milliseconds."""


class Sweep:
    """A sweep of four cells that train, in a ledger of its own."""

    def __init__(self, storage: Path, name: str) -> None:
        self.storage = storage
        self.wanted: Specification = specification(seeds=2, methods=("classification",))
        self.ledger: Ledger
        self.cells: Cells
        self.ledger, self.cells = write_sweep(storage, self.wanted, name=name)

    def finish(self, *cells: Cell) -> None:
        for cell in cells or self.cells.all():
            finish(self.ledger, self.wanted, cell)

    def begin(self, cell: Cell, epochs: int) -> None:
        """Write a cell as being trained, with a checkpoint."""
        attempt = self.ledger.begin(cell.key, {"cell": {}})
        rows = curve_rows(self.wanted, cell, final_values(cell, plain_value, 0.1))
        self.ledger.write_curves(cell.key, attempt, rows[:epochs])
        self.ledger.write_checkpoint(cell.key, epochs, attempt, b"state")

    def tracker(self, uri: str) -> Tracker:
        tracker = Tracker(uri, self.ledger, self.wanted, self.cells.all())
        tracker.connect()
        return tracker

    def drive(self, uri: str) -> Tracker:
        """Do what a driver does while its cells run; with all of them done, what it does when it goes on."""
        tracker = self.tracker(uri)
        done = self.ledger.read_results(cell.key for cell in self.cells.all())
        tracker.catch_up(done)
        for cell in self.cells.all():
            if cell.key not in done:
                self.begin(cell, 3)
                tracker.progressed(cell.key)
                self.finish(cell)
                tracker.done(cell.key)
        self.conclude(tracker)
        return tracker

    def conclude(self, tracker: Tracker) -> None:
        made = make_report(self.ledger)
        tracker.summarise(made.summary(), {"table.md": b"mine"}, finished=not made.missing)
        assert tracker.close(timeout=60, patient=True)
        assert tracker.refusals == []

    def rebuild(self, uri: str) -> None:
        words = [self.ledger.name, "--storage", str(self.storage), "--tracking-uri", uri]
        assert report([*words, "--rebuild-tracking"]) == 0

    def check(self, server: Server) -> None:
        assert_exactly_once(server.uri, self.ledger, self.wanted, self.cells)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep with a name of its own, since sweeps that are written by hand have the same time stamps."""
    return Sweep(tmp_path, f"sweep-{uuid.uuid4().hex}")


FAULTS = {
    "creations are held": Fault(HOLD, times=3, seconds=1.7),
    "each third creation is answered with 500": Fault(FAIL_AFTER, every=3),
    "each second creation is refused with 500": Fault(FAIL_BEFORE, every=2),
    "each second creation loses its answer": Fault(DROP, every=2),
    "two creations hang": Fault(HANG, times=2),
    "each third answer is late": Fault(STALL, "", every=3, times=8, seconds=3),
    "each third request is answered with 500": Fault(FAIL_AFTER, "", every=3),
    "each fourth request loses its answer": Fault(DROP, "", every=4),
    "each third change of a status is held": Fault(HOLD, UPDATE, every=3, seconds=3),
    "each third batch of points loses its answer": Fault(DROP, LOG, every=3),
    "each third batch of points is held": Fault(HOLD, LOG, every=3, seconds=3),
}
QUICK = ("creations are held", "each third creation is answered with 500")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS]
)
def test_each_cell_has_one_run_whatever_happens_to_requests(
    name: str, sweep: Sweep, server: Server, proxy: Proxy
) -> None:
    given = FAULTS[name]

    def again() -> Fault:
        return Fault(given.kind, given.path, given.every, given.times, given.seconds)

    proxy.faults = [again()]
    sweep.drive(proxy.uri)
    assert proxy.faults[0].befell > 0
    proxy.await_idle() if given.kind != HANG else None
    sweep.check(server)
    proxy.faults = [again()]
    sweep.drive(proxy.uri)
    sweep.check(server)
    proxy.faults = [again()]
    sweep.rebuild(proxy.uri)
    sweep.check(server)


def test_a_run_that_a_dead_driver_s_request_creates_late_is_found_at_the_end(
    sweep: Sweep, server: Server, proxy: Proxy
) -> None:
    first = sweep.cells.all()[0]
    sweep.begin(first, 3)
    held = Fault(HOLD, seconds=60, times=1)
    proxy.faults = [held]
    dead = sweep.tracker(proxy.uri)
    dead.progressed(first.key)
    await_true(lambda: held.befell == 1, 30)
    dead.close(timeout=0)
    sweep.finish()
    living = sweep.tracker(server.uri)
    living.catch_up(cell.key for cell in sweep.cells.all())
    await_true(lambda: first.key in runs_of(server.uri, sweep.ledger), 30)
    proxy.release.set()
    proxy.await_idle()
    assert len(runs_of(server.uri, sweep.ledger)[first.key]) == 2
    sweep.conclude(living)
    sweep.check(server)
    assert living.put_right() == [
        "MLflow had 1 run too many, made by requests whose answer was late or lost: each cell has one run "
        "again."
    ]


def test_a_late_change_of_status_does_not_outlast_the_end(sweep: Sweep, server: Server, proxy: Proxy) -> None:
    first, *others = sweep.cells.all()
    sweep.begin(first, 3)
    before = sweep.tracker(server.uri)
    before.progressed(first.key)
    before.interrupted()
    assert before.close(timeout=60)
    held = Fault(HOLD, UPDATE, times=1, seconds=60)
    proxy.faults = [held]
    tracker = sweep.tracker(proxy.uri)
    tracker.progressed(first.key)  # reopens the run, for which the server takes its time
    await_true(lambda: held.befell == 1, 30)
    sweep.finish(first, *others)
    for cell in sweep.cells.all():
        tracker.done(cell.key)
    await_true(lambda: runs_of(server.uri, sweep.ledger)[first.key][0].info.status == "FINISHED", 30)
    proxy.release.set()
    proxy.await_idle()
    assert runs_of(server.uri, sweep.ledger)[first.key][0].info.status == "RUNNING"
    sweep.conclude(tracker)
    sweep.check(server)


def test_twins_of_an_earlier_version_are_merged_and_what_people_noted_is_kept(
    sweep: Sweep, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.finish()
    sweep.drive(server.uri)
    client, cell = MlflowClient(server.uri), sweep.cells.all()[0]
    (run,) = runs_of(server.uri, sweep.ledger)[cell.key]
    tags = {name: run.data.tags[name] for name in ("kind", "sweep", "ledger", "cell")}
    notes = {"mlflow.note.content": "the odd one", "mine": "look here"}
    twin = client.create_run(run.info.experiment_id, tags={**tags, **notes}, run_name=cell.label)
    client.log_metric(twin.info.run_id, "train/loss", 1.0, step=1)
    sweep.rebuild(server.uri)
    assert "MLflow had 1 run too many" in capsys.readouterr().out
    sweep.check(server)
    (kept,) = runs_of(server.uri, sweep.ledger)[cell.key]
    assert kept.info.run_id == run.info.run_id
    assert notes.items() <= kept.data.tags.items()


def test_a_ledger_that_lost_its_identity_takes_its_runs_back(
    sweep: Sweep, server: Server, tmp_path: Path
) -> None:
    namesake = Sweep(tmp_path / "elsewhere", sweep.ledger.name)
    for cell in namesake.cells.all():
        finish(namesake.ledger, namesake.wanted, cell, value=lambda *_: 0.77)
    namesake.drive(server.uri)
    sweep.finish()
    sweep.drive(server.uri)
    before = runs_of(server.uri, sweep.ledger)
    before_it_was_lost = sweep.ledger.identity()
    new_identity(sweep)
    assert sweep.ledger.identity() != before_it_was_lost
    tracker = sweep.drive(server.uri)
    assert tracker.put_right() == [
        "5 runs in MLflow had an identity of this ledger that was lost: they are its own again."
    ]
    after = runs_of(server.uri, sweep.ledger)
    assert ids(after) == ids(before)
    sweep.check(server)
    namesake.check(server)


def new_identity(sweep: Sweep) -> None:
    """Give a ledger another identity, as version 0.1 did when the file was lost; sweep.json had none."""
    folder = sweep.storage / sweep.ledger.name
    kept = json.loads((folder / "sweep.json").read_text())
    old = {name: value for name, value in kept.items() if name not in ("identity", "digest")}
    (folder / "sweep.json").write_text(json.dumps(old))
    (folder / "identity").write_text(uuid.uuid4().hex)
    sweep.ledger = Ledger(str(sweep.storage), sweep.ledger.name)


def ids(runs: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {key: [run.info.run_id for run in found] for key, found in runs.items()}


@pytest.mark.parametrize(("metric", "milliseconds"), [("train/loss", 12345), ("cost/attempts", FINISHED_AT)])
def test_a_run_with_points_that_the_ledger_does_not_hold_is_written_anew(
    metric: str, milliseconds: int, sweep: Sweep, server: Server
) -> None:
    """As of a cell whose files were damaged, and which therefore ran again."""
    sweep.finish()
    sweep.drive(server.uri)
    cell = sweep.cells.all()[0]
    (run,) = runs_of(server.uri, sweep.ledger)[cell.key]
    client = MlflowClient(server.uri)
    step = 1 if metric == "train/loss" else sweep.wanted.recipe.epochs
    client.log_metric(run.info.run_id, metric, 5.0, step=step, timestamp=milliseconds)
    client.set_tag(run.info.run_id, "mlflow.note.content", "the odd one")
    sweep.rebuild(server.uri)
    sweep.check(server)
    (anew,) = runs_of(server.uri, sweep.ledger)[cell.key]
    assert anew.info.run_id != run.info.run_id
    assert anew.data.tags["mlflow.note.content"] == "the odd one"


def test_a_summary_that_differs_from_the_report_is_written_anew(sweep: Sweep, server: Server) -> None:
    sweep.finish()
    sweep.drive(server.uri)
    (run,) = runs_of(server.uri, sweep.ledger)["summary"]
    later = 4_000_000_000_000
    MlflowClient(server.uri).log_metric(run.info.run_id, "mean/classification/ap_msp", 0.99, timestamp=later)
    sweep.rebuild(server.uri)
    (anew,) = runs_of(server.uri, sweep.ledger)["summary"]
    assert anew.data.metrics == make_report(sweep.ledger).summary_metrics()


def test_a_slow_server_is_waited_for_at_the_start(
    sweep: Sweep,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracker_module, "SAY_SECONDS", 0.5)
    proxy.faults = [Fault(STALL, "", times=1, seconds=1.5)]
    assert sweep.tracker(proxy.uri).close(timeout=30)
    assert capsys.readouterr().err == f"Waiting up to 60 s for the tracking server {proxy.uri}.\n"


def test_rebuilding_beside_a_driver_is_refused(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.ledger.lock import hold

    words = [sweep.ledger.name, "--storage", str(sweep.storage), "--rebuild-tracking"]
    with hold(sweep.ledger):
        assert report(words) == 2
    assert "being run by" in capsys.readouterr().err
    assert not (sweep.storage / "mlflow.db").exists()

"""MLflow's side: one run a cell, for ever, and one of the sweep; all of it read from the ledger.

Only one process writes, the driver, and only what the ledger holds, with the ledger's time stamps: so
sending something again makes no second point, and the records can be rebuilt from the ledger alone.

The report is sent as contents, not as paths: the ledger may be in a bucket, where MLflow finds no file.
MLflow refuses to change a param, so what a sweep grows in is a tag of its own run as well (`records.py`).
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.planning.specification import Specification
from orchestrator.tracking import uris
from orchestrator.tracking.records import Record, cell_record, summary_record
from orchestrator.tracking.retry_queue import Outbox, first_line
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_SECONDS = 10.0

BATCH = 1000
"""Metrics that MLflow takes in one call."""

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "DO_NOT_TRACK": "true",
}
"""Set before MLflow is imported: its own retries hang for minutes, where ours queue and go on, and it
prints an address of its own for the sweep's run."""

REFUSED = (
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""MLflow's words for what it would refuse again: such a record is left out, and the end says so."""


def open_tracker(
    uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell] = ()
) -> Tracker | None:
    """A tracker whose server answers; None where MLflow is not installed.

    Raises Mistake where there is no answer, or where the URI needs a module that cannot be imported.
    """
    tracker = Tracker(uri, ledger, specification, cells)
    try:
        tracker.connect()
    except ImportError as error:
        if (error.name or "").split(".")[0] == "mlflow":
            return None
        module = f"the Python module {error.name}" if error.name else "a Python module"
        raise Mistake(
            f"The tracking URI {uri} needs {module}, which cannot be imported here ({first_line(error)}): "
            "install it, or give another URI with --tracking-uri."
        ) from None
    return tracker


class Tracker:
    """Writes a sweep's records, from a thread of its own, so that training never waits for MLflow."""

    def __init__(self, uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell]) -> None:
        self._uri = uri
        self._ledger = ledger
        self._specification = specification
        self._cells = {cell.key: cell for cell in cells}
        self._identity = ""
        """The ledger's: another's runs under the same name are left alone."""
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        """Run ids by the cell's key, and the summary's by "summary"."""
        self._sent: dict[str, int] = {}
        """How many points of a run were sent by this process."""
        self._finished: set[str] = set()
        """Cells whose run was finished when this process came."""
        self._outbox = Outbox(_refused)

    @property
    def refusals(self) -> list[str]:
        """What the server said to records that it will never take."""
        return self._outbox.refusals

    # Reaching the server

    def connect(self) -> None:
        """Finds the experiments and this sweep's runs; Mistake where no answer comes within 10 s.

        Raises ImportError where MLflow, or something that the URI needs, cannot be imported.
        """
        os.environ.update(PATIENCE)
        _import_client()  # which takes seconds that are not the server's
        try:
            self._identity = self._ledger.identity()
        except OSError as error:
            raise self._ledger.unwritable(error) from None
        failure: list[BaseException] = []
        asking = threading.Thread(target=self._ask, args=(failure,), daemon=True)
        asking.start()
        asking.join(None if self._uri.startswith("sqlite") else ANSWER_SECONDS)
        if asking.is_alive() or failure:
            if failure and isinstance(failure[0], ImportError | Mistake):
                raise failure[0]
            reason = f" ({first_line(failure[0])})" if failure else ""
            raise Mistake(
                f"The tracking URI {self._uri} does not answer within {ANSWER_SECONDS:.0f} s{reason}: "
                "start its server, or give another with --tracking-uri."
            )
        self._outbox.start()

    def _ask(self, failure: list[BaseException]) -> None:
        try:
            name = self._specification.benchmark
            with uris.held_alone(self._uri):
                self._client = _import_client()(self._uri)
                self._experiments = {
                    FINAL: self._experiment(name),
                    SEARCH: self._experiment(f"{name}-search"),
                }
            for run in self._search(f"tags.ledger = '{self._identity}'"):
                key = run.data.tags.get("cell", "summary")
                self._runs[key] = run.info.run_id
                if run.info.status == "FINISHED":
                    self._finished.add(key)
                if run.info.status == "RUNNING":  # left by a driver that died
                    self._client.set_terminated(run.info.run_id, "KILLED")
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise Mistake(
                f"MLflow's experiment {name!r} in {self._uri} was deleted: restore it (mlflow experiments "
                f"restore --experiment-id {found.experiment_id}), or give another --tracking-uri."
            )
        if found is not None:
            return found.experiment_id
        folder = os.path.dirname(os.path.abspath(self._uri.removeprefix("sqlite:///")))
        location = f"{folder}/mlartifacts/{name}" if self._uri.startswith("sqlite") else None
        try:
            return self._client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another driver created it meanwhile
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def _search(self, filter_string: str) -> Iterator[Any]:
        token = None
        experiments = list(self._experiments.values())
        while True:
            page = self._client.search_runs(experiments, filter_string, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    # What the driver tells

    def catch_up(self, keys: Iterable[str]) -> None:
        """Sends the done cells that MLflow does not know to be finished: a driver died before it told."""
        for key in keys:
            if key not in self._finished:
                self.done(key)

    def progressed(self, key: str) -> None:
        """The ledger holds more epochs of a running cell."""
        self._outbox.put(lambda: self._write_cell(key, "RUNNING"))

    def done(self, key: str) -> None:
        """The ledger holds a cell's result."""
        self._outbox.put(lambda: self._write_cell(key, "FINISHED"))

    def failed(self, key: str) -> None:
        """A cell was given up."""
        self._outbox.put(lambda: self._write_cell(key, "FAILED"))

    def summarise(self, metrics: dict[str, float], files: Mapping[str, bytes], *, finished: bool) -> None:
        """Writes the sweep's own run: means, specification, and the report's files, by name, as artifacts."""
        self._outbox.put(lambda: self._write_summary(metrics, files, finished))

    def send(self, records: Mapping[str, Record]) -> None:
        """Writes finished runs that are no cells of a sweep, such as a baseline's, by key."""
        for key, record in records.items():
            self._outbox.put(partial(self._write, key, self._experiments[FINAL], record, "FINISHED"))

    def close(self, timeout: float) -> bool:
        """Waits for what is queued; False where the server is away and records are outstanding."""
        return self._outbox.close(timeout)

    def rebuild(self) -> int:
        """Writes every done cell's run, from this thread; how many there are."""
        results = self._ledger.read_results(self._cells)
        for key in results:
            self._write_cell(key, "FINISHED")
        return len(results)

    # Writing

    def _write_cell(self, key: str, status: str) -> None:
        cell = self._cells[key]
        record = cell_record(cell, self._specification, self._ledger)
        if status == "RUNNING" and record.finished:
            return  # the result came before this was sent, and is queued
        self._write(key, self._experiments[cell.phase], record, status)

    def _write_summary(self, metrics: dict[str, float], files: Mapping[str, bytes], finished: bool) -> None:
        results = self._ledger.read_results(self._cells).values()
        newest = max((result["attempt"]["finished_at"] for result in results), default=0.0)
        record = summary_record(self._specification, self._ledger, metrics, newest)
        status = "FINISHED" if finished else "FAILED"
        run_id = self._write("summary", self._experiments[FINAL], record, status)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            self._client.log_artifacts(run_id, folder)

    def _write(self, key: str, experiment: str, record: Record, status: str) -> str:
        """One run: created once, and given what it does not have yet."""
        from mlflow.entities import Metric, Param, RunTag

        known = key in self._runs
        run_id = self._runs[key] if known else self._create(key, experiment, record)
        new = record.points[self._sent.get(key, 0) :]
        metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in new]
        missing = [] if key in self._sent else self._missing_params(run_id, record, known)
        params = [Param(*pair) for pair in missing]
        tags = [RunTag(*pair) for pair in record.tags.items()] if known else []
        for start in range(0, max(len(metrics), 1), BATCH):
            first = start == 0
            self._client.log_batch(
                run_id,
                metrics[start : start + BATCH],
                params if first else (),
                tags if first else (),
            )
        if status == "RUNNING":
            if known and key not in self._sent:
                self._client.update_run(run_id, "RUNNING")
        else:
            end = max((point.timestamp for point in record.points), default=None)
            self._client.set_terminated(run_id, status, end)
        self._sent[key] = len(record.points)
        return run_id

    def _create(self, key: str, experiment: str, record: Record) -> str:
        """A new run; one that an unanswered call made before is found again by its tags."""
        tag = "kind = 'summary'" if key == "summary" else f"cell = '{key}'"
        if self._outbox.away:
            for run in self._search(f"tags.ledger = '{self._identity}' and tags.{tag}"):
                self._runs[key] = str(run.info.run_id)
                return self._runs[key]
        start = min((point.timestamp for point in record.points), default=None)
        run = self._client.create_run(experiment, start, dict(record.tags), record.name)
        self._runs[key] = str(run.info.run_id)
        return self._runs[key]

    def _missing_params(self, run_id: str, record: Record, known: bool) -> list[tuple[str, str]]:
        """Params that the run does not have: MLflow refuses to change one, as a grown sweep's would."""
        have = self._client.get_run(run_id).data.params if known else {}
        return [(name, value) for name, value in record.params.items() if name not in have]

    # Looking at it

    def ui_command(self) -> str:
        """The command that opens MLflow's page, or the server's own address."""
        return uris.ui_command(self._uri)

    def comparison_address(self) -> str:
        """The address of the final cells' comparison page, or of their list where they are too many."""
        finals = [cell.key for cell in self._cells.values() if cell.phase == FINAL]
        runs = [self._runs[key] for key in finals if key in self._runs]
        return uris.comparison_address(self._uri, self._experiments[FINAL], runs, self._ledger.name)

    def list_address(self) -> str:
        """The address of the list of this sweep's runs."""
        return uris.list_address(self._uri, self._experiments[FINAL], self._ledger.name)


def _refused(error: Exception) -> bool:
    """Whether MLflow would refuse this again; what misses a module does not get it by waiting either."""
    return isinstance(error, ImportError) or getattr(error, "error_code", None) in REFUSED


def _import_client() -> type[MlflowClient]:
    names = ("mlflow", "alembic", "mlflow.store.db.utils")
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    for name in names:  # MLflow sets its own as it is imported
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient

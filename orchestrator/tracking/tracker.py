"""A sweep's records in MLflow: one run per cell and one for the sweep, all of them read from the ledger.

A cell keeps its run: a later attempt reopens it. Only one process writes, the driver, and only what the
ledger holds, with the ledger's time stamps. So sending something again adds no second point, and the records
can be rebuilt from the ledger alone.

The report is sent as contents rather than paths, since the ledger may be in a bucket, where MLflow finds no
file.
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
from orchestrator.tracking.retry_queue import RetryQueue
from trainables.mistake import Mistake, one_line

# MLflow is imported inside the functions that need it: it takes seconds, may not be installed, and must find
# CLIENT_SETTINGS in the environment.
if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_SECONDS = 10.0

SUMMARY = "summary"
"""Key of the sweep's own run among the cells' keys."""

BATCH = 1000
"""Most metrics that MLflow takes in one call."""

CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "DO_NOT_TRACK": "true",
}
"""Environment variables to set before MLflow is imported.

MLflow's own retries block for minutes, where ours wait in a queue, and it would print an address of its own
for the sweep's run.
"""

REFUSED = (
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""MLflow's codes for requests that it would refuse again: the record is left out and reported at the end."""


def open_tracker(
    uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell] = ()
) -> Tracker | None:
    """Return a connected tracker, or None if MLflow is not installed.

    Raise Mistake if the server does not answer, or if the URI needs a module that cannot be imported.
    """
    tracker = Tracker(uri, ledger, specification, cells)
    try:
        tracker.connect()
    except ImportError as error:
        if (error.name or "").split(".")[0] == "mlflow":
            return None
        module = f"the Python module {error.name}" if error.name else "a Python module"
        raise Mistake(
            f"The tracking URI {uri} needs {module}, which cannot be imported here ({one_line(error)}): "
            "install it, or give another URI with --tracking-uri."
        ) from None
    return tracker


class Tracker:
    """Writes a sweep's records from its own thread, so that training never waits for MLflow."""

    def __init__(self, uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell]) -> None:
        self._uri = uri
        self._ledger = ledger
        self._specification = specification
        self._cells = {cell.key: cell for cell in cells}
        self._identity = ""
        """The ledger's identity; runs of another ledger with the same sweep name are left alone."""
        self._experiments: dict[str, str] = {}
        """Experiment ids by phase."""
        self._runs: dict[str, str] = {}
        """Run ids by the cell's key; the sweep's own run has the key SUMMARY."""
        self._sent: dict[str, int] = {}
        """How many points of each run this process has sent."""
        self._under_way: set[str] = set()
        """Keys of the cells that are running, as far as the driver has said."""
        self._finished: set[str] = set()
        """Keys of the runs that were finished when this process connected."""
        self._queue = RetryQueue(_retryable)

    @property
    def refusals(self) -> list[str]:
        """First lines of the errors with which the server refused records for good."""
        return self._queue.refusals

    # Connecting

    def connect(self) -> None:
        """Find the experiments and this sweep's runs; raise Mistake without an answer within ANSWER_SECONDS.

        Raise ImportError if MLflow, or a module that the URI needs, cannot be imported.
        """
        os.environ.update(CLIENT_SETTINGS)
        _import_client()  # takes seconds, which do not count against the server
        try:
            self._identity = self._ledger.identity()
        except OSError as error:
            raise self._ledger.unwritable(error) from None
        failure: list[BaseException] = []
        finding = threading.Thread(target=self._find_runs, args=(failure,), daemon=True)
        finding.start()
        finding.join(None if self._uri.startswith("sqlite") else ANSWER_SECONDS)
        if finding.is_alive() or failure:
            if failure and isinstance(failure[0], ImportError | Mistake):
                raise failure[0]
            reason = f" ({one_line(failure[0])})" if failure else ""
            raise Mistake(
                f"The tracking URI {self._uri} does not answer within {ANSWER_SECONDS:.0f} s{reason}: "
                "start its server, or give another with --tracking-uri."
            )
        self._queue.start()

    def _find_runs(self, failure: list[BaseException]) -> None:
        """Set the client and fill in experiments and runs; append the error to `failure` if that fails."""
        try:
            name = self._specification.benchmark
            with uris.opening_lock(self._uri):
                self._client = _import_client()(self._uri)
                self._experiments = {
                    FINAL: self._experiment(name),
                    SEARCH: self._experiment(f"{name}-search"),
                }
            for run in self._search(f"tags.ledger = '{self._identity}'"):
                key = run.data.tags.get("cell", SUMMARY)
                self._runs[key] = run.info.run_id
                if run.info.status == "FINISHED":
                    self._finished.add(key)
                if run.info.status == "RUNNING":  # left by a driver that died
                    self._client.set_terminated(run.info.run_id, "KILLED")
        except BaseException as error:  # raised again by the waiting thread
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
        path = uris.sqlite_path(self._uri)
        location = (
            f"{os.path.dirname(os.path.abspath(path))}/mlartifacts/{name}" if path is not None else None
        )
        try:
            return self._client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another driver may have created it meanwhile
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

    # What the driver reports

    def catch_up(self, keys: Iterable[str]) -> None:
        """Send those of the done cells whose runs are not finished, since an earlier driver died first."""
        for key in keys:
            if key not in self._finished:
                self.done(key)

    def progressed(self, key: str) -> None:
        """Send the epochs of a running cell that the ledger holds by now."""
        self._under_way.add(key)
        self._queue.put(lambda: self._write_cell(key, "RUNNING"))

    def done(self, key: str) -> None:
        """Send the result of a cell and finish its run."""
        self._under_way.discard(key)
        self._queue.put(lambda: self._write_cell(key, "FINISHED"))

    def rescored(self, key: str) -> None:
        """Send what later detectors gave a cell that is done, and all of it if its run is not finished."""
        self._queue.put(lambda: self._write_cell(key, "FINISHED", only_later=key in self._finished))

    def failed(self, key: str) -> None:
        """Mark the run of a cell that failed on every attempt."""
        self._under_way.discard(key)
        self._queue.put(lambda: self._write_cell(key, "FAILED"))

    def interrupted(self) -> None:
        """Close the runs of the cells that are under way, as the driver is being stopped.

        They say KILLED, and a later attempt reopens them. Call `close` afterwards.
        """
        for key in sorted(self._under_way):
            self._queue.put(partial(self._write_cell, key, "KILLED"))

    def summarise(self, metrics: dict[str, float], files: Mapping[str, bytes], *, finished: bool) -> None:
        """Send the sweep's own run: metrics, specification, and the report's files, by name, as artifacts."""
        self._queue.put(lambda: self._write_summary(metrics, files, finished))

    def close(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what is queued; return whether all of it was sent."""
        return self._queue.close(timeout)

    def rebuild(self) -> int:
        """Write the runs of all cells that are done, in this thread; return how many there are."""
        results = self._ledger.read_results(self._cells)
        for key in results:
            self._write_cell(key, "FINISHED")
        return len(results)

    # Writing

    def _write_cell(self, key: str, status: str, *, only_later: bool = False) -> None:
        cell = self._cells[key]
        record = cell_record(cell, self._specification, self._ledger)
        if status == "RUNNING" and record.finished:
            return  # done meanwhile: sending the result is queued
        if status == "KILLED" and record.finished:
            status = "FINISHED"
        if only_later:
            self._sent[key] = len(record.points) - record.later
        self._write(key, self._experiments[cell.phase], record, status)

    def _write_summary(self, metrics: dict[str, float], files: Mapping[str, bytes], finished: bool) -> None:
        results = self._ledger.read_results(self._cells)
        later = self._ledger.read_all_later(key for key in results if self._cells[key].phase == FINAL)
        records = [*results.values(), *(record for found in later.values() for record in found.values())]
        newest = max((record["attempt"]["finished_at"] for record in records), default=0.0)
        record = summary_record(self._specification, self._ledger, metrics, newest)
        status = "FINISHED" if finished else "FAILED"
        run_id = self._write(SUMMARY, self._experiments[FINAL], record, status)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            self._client.log_artifacts(run_id, folder)

    def _write(self, key: str, experiment: str, record: Record, status: str) -> str:
        """Write to a run, created if it does not exist, what it lacks; return its id."""
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
            last = max((point.timestamp for point in record.points), default=None)
            self._client.set_terminated(run_id, status, record.ended or last)
        self._sent[key] = len(record.points)
        return run_id

    def _create(self, key: str, experiment: str, record: Record) -> str:
        """Create a run and return its id; a run that an unanswered call created is found by its tags."""
        tag = "kind = 'summary'" if key == SUMMARY else f"cell = '{key}'"
        if self._queue.away:
            for run in self._search(f"tags.ledger = '{self._identity}' and tags.{tag}"):
                self._runs[key] = str(run.info.run_id)
                return self._runs[key]
        start = min((point.timestamp for point in record.points), default=None)
        run = self._client.create_run(experiment, start, dict(record.tags), record.name)
        self._runs[key] = str(run.info.run_id)
        return self._runs[key]

    def _missing_params(self, run_id: str, record: Record, known: bool) -> list[tuple[str, str]]:
        """Return the params that the run lacks: MLflow refuses to change one, as a sweep that grew would."""
        have = self._client.get_run(run_id).data.params if known else {}
        return [(name, value) for name, value in record.params.items() if name not in have]

    # Addresses

    def ui_command(self) -> str:
        """Return the command that serves MLflow's pages, or the address of a server that already does."""
        return uris.ui_command(self._uri)

    def comparison_address(self, metrics: Iterable[str]) -> str:
        """Return the address that compares the final cells by metrics, or their list's if they are many."""
        finals = [cell.key for cell in self._cells.values() if cell.phase == FINAL]
        runs = [self._runs[key] for key in finals if key in self._runs]
        return uris.comparison_address(
            self._uri, self._experiments[FINAL], runs, list(metrics), self._ledger.name
        )

    def list_address(self) -> str:
        """Return the address of the page that lists this sweep's runs."""
        return uris.list_address(self._uri, self._experiments[FINAL], self._ledger.name)


def _retryable(error: Exception) -> bool:
    """Return whether a later attempt may succeed: MLflow did not refuse it, and no module is missing."""
    return not isinstance(error, ImportError) and getattr(error, "error_code", None) not in REFUSED


def _import_client() -> type[MlflowClient]:
    names = ("mlflow", "alembic", "mlflow.store.db.utils")
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    for name in names:  # importing MLflow sets its own levels
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient

"""A sweep's records in MLflow: one run per cell and one for the sweep, all of them read from the ledger.

A cell keeps its run: a later attempt reopens it. Only one process writes, the driver, and only what the
ledger holds, with the ledger's time stamps. So sending something again adds no second point, and the records
can be rebuilt from the ledger alone.

MLflow gives a run its id, so a request to create one that is not answered may leave a run that nobody knows,
at once or when a slow server gets to it. Every run therefore has in its tags, from its first moment, which
ledger and cell it is of, and by which request it was made. Whoever looks (at the start, after a request
whose answer is lost, and at the end) finds the twins of a cell by these, keeps one and deletes the rest.

The report is sent as contents rather than paths, since the ledger may be in a bucket, where MLflow finds no
file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.planning.specification import Specification
from orchestrator.tracking import answers, uris
from orchestrator.tracking.client import LONGEST_TIMEOUT, SHORTEST_TIMEOUT, TIMEOUT, import_client
from orchestrator.tracking.notes import about, sweep_line, with_line
from orchestrator.tracking.records import Opened, Point, Record, Summary, cell_record, summary_record
from orchestrator.tracking.retry_queue import Later, RetryQueue
from orchestrator.tracking.views import saved_views, view_address, view_link
from trainables.mistake import Mistake, counted, one_line

# MLflow is imported inside the functions that need it: it takes seconds, and may not be installed.
if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment, Run

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""How long the server may take to answer when a tracker connects."""
SAY_SECONDS = 10.0
"""After how long of this it is said that the tracker waits."""
AGAIN_SECONDS = 1.0
"""Pause before a server that did not answer is asked again."""

DOUBT_SECONDS = 30.0
"""How long after a request that was not answered the server may still carry it out."""

SUMMARY = "summary"
"""Key of the sweep's own run among the cells' keys."""

CREATION = "creation"
"""Tag with the request that created a run."""

ACCOUNTS = "cost/"
"""What the names of metrics begin with that may change after a cell is done."""

DESCRIPTION = "mlflow.note.content"
"""Tag of a run's or an experiment's description on MLflow's page."""
LONGEST_NOTE, LONGEST_DIGEST = 8000, 36
"""Characters that MLflow takes of a tag, and of the digest of a data set."""

STRAYS_COMPARED = 10
"""Most runs of another identity that are compared with the ledger."""

BATCH = 1000
"""Most metrics that MLflow takes in one call."""


def open_tracker(
    uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell] = ()
) -> Tracker | None:
    """Return a connected tracker, or None if MLflow is not installed; say what was put right in MLflow.

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
            f"The tracking URI {masked(uri)} needs {module}, which cannot be imported here "
            f"({one_line(error)}): install it, or give another URI with --tracking-uri."
        ) from None
    for line in tracker.put_right():
        print(line)
    return tracker


class Insist(Protocol):
    """Makes a step again until it succeeds."""

    def __call__(self, step: Callable[[], T]) -> T:
        """Return what the step returns."""


@dataclass(frozen=True)
class _Doubt:
    """A request that was not answered, and the time until which the server may still carry it out."""

    key: str
    until: float


@dataclass(frozen=True)
class _Intent:
    """How this process left a run: its status, and its end in milliseconds."""

    status: str
    ended: int | None


class Tracker:
    """Writes a sweep's records from its own thread, so that training never waits for MLflow."""

    def __init__(self, uri: str, ledger: Ledger, specification: Specification, cells: Iterable[Cell]) -> None:
        self._uri = uri
        self._ledger = ledger
        self._specification = specification
        self._cells = {cell.key: cell for cell in cells}
        self._identity = ""
        """The ledger's identity; runs of another ledger with the same sweep name are left alone."""
        self._source: dict[str, str] = {}
        """Tags of MLflow's own that say what makes the runs."""
        self._fingerprint = ""
        """That of the sweep's data."""
        self._experiments: dict[str, str] = {}
        """Experiment ids by phase."""
        self._runs: dict[str, str] = {}
        """Run ids by the cell's key; the sweep's own run has the key SUMMARY."""
        self._sent: dict[str, int] = {}
        """How many points of each run this process has sent."""
        self._params: dict[str, dict[str, str]] = {}
        """Params of the runs that are known to hold no point but the ledger's."""
        self._tags: dict[str, dict[str, str]] = {}
        """Tags that this process gave to runs."""
        self._intents: dict[str, _Intent] = {}
        """How this process left the runs that it wrote or found finished."""
        self._doubts: dict[str, _Doubt] = {}
        """Requests without an answer, by a name that a run which they create has in its tag CREATION."""
        self._notes: dict[str, dict[str, str]] = {}
        """What people noted on runs that were replaced."""
        self._histories: dict[tuple[str, str], set[Point]] = {}
        """Points by run id and metric, as they were read for the job that is being run."""
        self._under_way: set[str] = set()
        """Keys of the cells that are running, as far as the driver has said."""
        self._described: set[str] = set()
        """Keys of the runs that this process told which images were opened for them."""
        self._finished: set[str] = set()
        """Keys of the runs that were finished when this process connected."""
        self._twins = self._strays = self._replaced = 0
        self._queue = RetryQueue(self._retryable, ledger.check)

    @property
    def refusals(self) -> list[str]:
        """First lines of the errors with which the server refused records for good."""
        return self._queue.refusals

    def put_right(self) -> list[str]:
        """Return a sentence for each kind of thing that was put right in MLflow since the last call."""
        twins, strays, replaced = self._twins, self._strays, self._replaced
        self._twins = self._strays = self._replaced = 0
        said = []
        if twins:
            said.append(
                f"MLflow had {counted(twins, 'run')} too many, made by requests whose answer was late or "
                "lost: each cell has one run again."
            )
        if strays:
            said.append(
                f"{counted(strays, 'run')} in MLflow had an identity of this ledger that was lost: they are "
                "its own again."
            )
        if replaced:
            said.append(
                f"{counted(replaced, 'run')} in MLflow held values that the ledger does not: written anew."
            )
        return said

    # Connecting

    def connect(self) -> None:
        """Find the experiments and this sweep's runs, and leave one run per cell, none of them running.

        A server that does not answer is waited for up to ANSWER_SECONDS, which is said after SAY_SECONDS;
        then Mistake is raised. Raise ImportError if MLflow, or a module that the URI needs, cannot be
        imported.
        """
        import_client()  # takes seconds, which do not count against the server
        try:
            self._identity = self._ledger.identity()
            self._say_source()
        except OSError as error:
            raise self._ledger.unwritable(error) from None
        finding = _Finding(self._find_runs, again=uris.is_server(self._uri))
        finding.start()
        if uris.sqlite_path(self._uri) is None:
            finding.join(min(SAY_SECONDS, ANSWER_SECONDS))
            if finding.is_alive() and SAY_SECONDS < ANSWER_SECONDS:
                print(self._waiting(finding.trouble), file=sys.stderr, flush=True)
            finding.join(max(finding.until - time.monotonic(), 0))
        else:
            finding.join()
        finding.given_up.set()
        if finding.is_alive() or finding.trouble is not None:
            raise self._no_answer(finding.trouble)
        os.environ[TIMEOUT] = str(SHORTEST_TIMEOUT)
        self._queue.start()

    def _say_source(self) -> None:
        """Note what sweep.json says of the code and the data, if it is written already."""
        self._source = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "orchestrator.sweep"}
        with contextlib.suppress(Mistake):
            about = self._ledger.read_sweep()
            self._fingerprint = str(about.get("fingerprint", ""))
            if about.get("git_commit"):
                self._source["mlflow.source.git.commit"] = str(about["git_commit"])

    def _waiting(self, trouble: BaseException | None) -> str:
        reason = f" ({answers.said(trouble)})" if trouble is not None else ""
        return f"Waiting up to {ANSWER_SECONDS:.0f} s for the tracking server {masked(self._uri)}{reason}."

    def _no_answer(self, error: BaseException | None) -> BaseException:
        """Return what to raise when the runs could not be found."""
        if isinstance(error, ImportError | Mistake):
            return error
        reason = f" ({answers.said(error)})" if error is not None else ""
        if error is not None and answers.no_entry(error):
            return Mistake(
                f"The tracking server {masked(self._uri)} refuses this machine's user and password{reason}: "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or put them into "
                "~/.mlflow/credentials."
            )
        if error is not None and (answers.final(error) or not uris.is_server(self._uri)):
            return Mistake(
                f"The tracking URI {masked(self._uri)} cannot be used{reason}: correct it, or give another "
                "with --tracking-uri."
            )
        return Mistake(
            f"The tracking URI {masked(self._uri)} does not answer within {ANSWER_SECONDS:.0f} s{reason}: "
            "start its server, or give another with --tracking-uri."
        )

    def _find_runs(self, insist: Insist) -> None:
        """Set the client and fill in experiments and runs.

        Each step is made by `insist`, so that a server that loses some answers does not stop all of them.
        """
        insist(self._open)
        insist(self._take_in_strays)
        for key, runs in insist(self._own_runs).items():
            insist(partial(self._take_over, key, runs))

    def _open(self) -> None:
        with uris.opening_lock(self._uri):
            client = import_client()(self._uri)
            self._client = cast("MlflowClient", _Told(client, self._queue.answered))
            for phase, suffix in ((FINAL, ""), (SEARCH, "-search")):
                if phase not in self._experiments:
                    self._experiments[phase] = self._experiment(f"{self._specification.benchmark}{suffix}")

    def _take_over(self, key: str, runs: Sequence[Run]) -> None:
        """Leave one run of a cell, and not running, as a driver that died may have left it."""
        run = self._only(key, runs)
        if run.info.status == "RUNNING":
            with self._in_doubt(key):
                self._client.set_terminated(run.info.run_id, "KILLED")
        elif run.info.status == "FINISHED" and len(runs) == 1:
            self._finished.add(key)
            self._intents[key] = _Intent("FINISHED", run.info.end_time)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise Mistake(
                f"MLflow's experiment {name!r} in {masked(self._uri)} was deleted: restore it (mlflow "
                f"experiments restore --experiment-id {found.experiment_id}), or give another --tracking-uri."
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

    def _search(self, filter_string: str) -> Iterator[Run]:
        token = None
        experiments = list(self._experiments.values())
        while True:
            page = self._client.search_runs(experiments, filter_string, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _retryable(self, error: Exception) -> bool:
        """Return whether a job that failed is worth running again; give a slow server longer to answer."""
        if answers.timed_out(error):
            now = int(os.environ.get(TIMEOUT, SHORTEST_TIMEOUT))
            os.environ[TIMEOUT] = str(min(2 * now, LONGEST_TIMEOUT))
        return answers.retryable(error)

    # One run per cell

    def _own_runs(self, more: str = "") -> dict[str, list[Run]]:
        """Return this ledger's runs by the cell's key; `more` is what else a run must fulfil."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self._search(f"tags.ledger = '{self._identity}'{more}"):
            found[run.data.tags.get("cell", SUMMARY)].append(run)
        return found

    def _only(self, key: str, runs: Sequence[Run]) -> Run:
        """Return the run that is kept for a key, and delete its twins.

        What is kept is the run that this process writes to, else the one that holds most. All that the
        ledger says is sent to it; what a person noted on a twin moves to it here.
        """
        kept = next((run for run in runs if run.info.run_id == self._runs.get(key)), None)
        kept = kept or (max(runs, key=self._fullness) if len(runs) > 1 else runs[0])
        for twin in runs:
            if twin is not kept:
                for name, value in _notes(twin).items():
                    if name not in kept.data.tags:
                        self._client.set_tag(kept.info.run_id, name, value)
                self._client.delete_run(twin.info.run_id)
                self._twins += 1
        self._runs[key] = kept.info.run_id
        return kept

    def _fullness(self, run: Run) -> tuple[bool, int, int]:
        """Return what tells which of two twins to keep: the finished one, the fuller one, the older one."""
        points = sum(len(self._history(run, name)) for name in run.data.metrics)
        return run.info.status == "FINISHED", points, -run.info.start_time

    def _history(self, run: Run, metric: str) -> set[Point]:
        """Return the points of a run's metric; `_histories` keeps them for when a job is run again."""
        place = run.info.run_id, metric
        if place not in self._histories:
            found = self._client.get_metric_history(*place)
            self._histories[place] = {Point(metric, p.value, p.step, p.timestamp) for p in found}
        return self._histories[place]

    def _take_in_strays(self) -> None:
        """Make the runs that this ledger made under an identity that was lost since its own again.

        Another ledger may have the same name and cells, and its runs are left alone. So a run counts as this
        ledger's only if all of its points have the ledger's values and time stamps (in milliseconds); the
        others that were made under the same identity come with it. A copy of the ledger that has lost its
        identity cannot be told from it.
        """
        others: dict[str, list[Run]] = defaultdict(list)
        for run in self._search(f"tags.sweep = '{self._ledger.name}' and tags.ledger != '{self._identity}'"):
            key = run.data.tags.get("cell", SUMMARY)
            if key in self._cells or key == SUMMARY:
                others[run.data.tags["ledger"]].append(run)
        for runs in others.values():
            if any(self._made_here(run) for run in runs[:STRAYS_COMPARED]):
                for run in runs:
                    self._client.set_tag(run.info.run_id, "ledger", self._identity)
                    self._strays += 1
        self._histories.clear()

    def _made_here(self, run: Run) -> bool:
        """Return whether a cell's run holds points, and only such as the ledger holds."""
        cell = self._cells.get(run.data.tags.get("cell", SUMMARY))
        if cell is None or not run.data.metrics:
            return False
        return not self._foreign(run, cell_record(cell, self._specification, self._ledger))

    def _foreign(self, run: Run, record: Record) -> bool:
        """Return whether a run holds a point that the record does not."""
        known = {*record.points, *record.held_back}
        accounts = {point.name: point.value for point in record.points if point.name.startswith(ACCOUNTS)}
        for name, shown in run.data.metrics.items():
            if name.startswith(ACCOUNTS):
                if shown > accounts.get(name, shown):  # of values at one time MLflow shows the largest
                    return True
            elif not self._history(run, name) <= known:
                return True
        return False

    def _settle(self) -> None:
        """Leave one run per cell, as it was written last, whatever the server carried out late.

        Requests that are still undecided are waited for.
        """
        found = self._own_runs()
        for key, runs in found.items():
            lost = self._runs.get(key) not in {run.info.run_id for run in runs}
            self._restore(key, self._only(key, runs), lost=lost)
        created = {run.data.tags.get(CREATION) for runs in found.values() for run in runs}
        now = time.monotonic()
        self._doubts = {
            name: doubt for name, doubt in self._doubts.items() if name not in created and doubt.until > now
        }
        if self._doubts:
            raise Later

    def _restore(self, key: str, run: Run, *, lost: bool) -> None:
        """Undo what a late request changed in a run; `lost` says that it is not the one that was written."""
        intent = self._intents.get(key)
        if intent is None:
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
            return
        if lost and key in self._cells:
            self._forget(key)
            self._runs[key] = run.info.run_id
            self._write_cell(key, intent.status)
            return
        for name, value in self._tags.get(key, {}).items():
            if run.data.tags.get(name) != value:
                self._client.set_tag(run.info.run_id, name, value)
        if run.info.status != intent.status:
            self._set_status(run.info.run_id, intent)

    def _forget(self, key: str) -> None:
        """Know nothing of what a key's run holds."""
        for known in (self._runs, self._params, self._sent, self._tags, self._intents):
            known.pop(key, None)

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

    def summarise(self, summary: Summary, files: Mapping[str, bytes], *, finished: bool) -> None:
        """Send the sweep's own run, with the report's files, by name, as artifacts; save views and notes."""
        left = dict(files)
        self._queue.put(lambda: self._write_summary(summary, left, finished))
        self._queue.put(lambda: self._save_views(summary))
        self._queue.put(lambda: self._save_notes(summary))
        self._queue.put(self._settle)

    def close(self, timeout: float, *, patient: bool = False) -> bool:
        """Wait up to `timeout` seconds for what is queued; return whether all of it was sent.

        A `patient` call waits as long as the server takes a record every `timeout` seconds.
        """
        return self._queue.close(timeout, patient=patient, say=self._say_left)

    def _say_left(self, left: int) -> None:
        where = masked(self._uri)
        print(f"Waiting for {where} to take {counted(left, 'record')}.", file=sys.stderr, flush=True)

    def rebuild(self) -> int:
        """Write the runs of all cells that are done anew, as `done` does; return how many there are."""
        results = self._ledger.read_results(self._cells)
        for key in results:
            self.done(key)
        return len(results)

    # Writing

    def _write_cell(self, key: str, status: str, *, only_later: bool = False) -> None:
        cell = self._cells[key]
        record = cell_record(cell, self._specification, self._ledger)
        if status == "RUNNING" and record.finished:
            return  # done meanwhile: sending the result is queued
        if status == "KILLED" and record.finished:
            status = "FINISHED"
        sent = len(record.points) - record.later if only_later else 0
        self._write(key, self._experiments[cell.phase], record, status, sent)

    def _save_views(self, summary: Summary) -> None:
        """Save the pages that compare the final cells, in tags of their experiment."""
        searched = self._specification.search
        views = saved_views(self._ledger.name, self._identity, summary.compared, searched)
        for tag, state in views.items():
            self._client.set_experiment_tag(self._experiments[FINAL], tag, state)

    def _save_notes(self, summary: Summary) -> None:
        """Give the sweep a line in the notes of its experiments."""
        done = self._ledger.read_results(self._cells)
        page = view_link(self._experiments[FINAL], self._ledger.name)
        for phase, experiment in self._experiments.items():
            keys = [key for key, cell in self._cells.items() if cell.phase == phase]
            states = f"{sum(key in done for key in keys)} of {counted(len(keys), 'cell')} done"
            results = summary.results if phase == FINAL else ""
            line = sweep_line(self._ledger.name, page, states, results)
            if keys:
                self._save_note(experiment, about(self._specification.benchmark, phase), line)

    def _save_note(self, experiment: str, said: str, line: str) -> None:
        with uris.opening_lock(self._uri):  # another sweep may end at the same time
            note = self._client.get_experiment(experiment).tags.get(DESCRIPTION, "")
            new = with_line(note, said, self._ledger.name, line)
            if new != note:
                self._client.set_experiment_tag(experiment, DESCRIPTION, new)

    def _write_summary(self, summary: Summary, left: dict[str, bytes], finished: bool) -> None:
        """Write the sweep's own run, and upload the files that are left to upload."""
        results = self._ledger.read_results(self._cells)
        later = self._ledger.read_all_later(key for key in results if self._cells[key].phase == FINAL)
        records = [*results.values(), *(record for found in later.values() for record in found.values())]
        newest = max((record["attempt"]["finished_at"] for record in records), default=0.0)
        record = summary_record(self._specification, self._ledger, summary.metrics, newest)
        status = "FINISHED" if finished else "FAILED"
        run_id = self._write(SUMMARY, self._experiments[FINAL], record, status)
        shown = self._client.get_run(run_id)
        if _texts(shown.data.metrics) != _texts({point.name: point.value for point in record.points}):
            self._replace(SUMMARY, shown)
            run_id = self._write(SUMMARY, self._experiments[FINAL], record, status)
        note = f"{self._note_begins}\n\n{summary.note}"[:LONGEST_NOTE]
        if shown.data.tags.get(DESCRIPTION, self._note_begins).startswith(self._note_begins):
            self._client.set_tag(run_id, DESCRIPTION, note)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in list(left.items()):
                path = Path(folder, name)
                path.write_bytes(data)
                self._client.log_artifact(run_id, str(path))
                del left[name]

    def _write(self, key: str, experiment: str, record: Record, status: str, sent: int = 0) -> str:
        """Write to a run, created if it does not exist, what it lacks; return its id.

        `sent` is how many of the record's points an earlier process is known to have sent. Each step is noted
        when it has succeeded, so that it is not made again if a later one fails.
        """
        from mlflow.entities import Metric, Param, RunTag

        while key not in self._params:
            if key not in self._runs:
                self._create(key, experiment, record)
            else:
                self._compare(key, record, sent)
        run_id = self._runs[key]
        points = record.points[self._sent[key] :]
        metrics = [Metric(p.name, p.value, p.timestamp, p.step) for p in points]
        # MLflow refuses to change a param, as a sweep that grew would.
        params = [Param(*pair) for pair in record.params.items() if pair[0] not in self._params[key]]
        tags = [RunTag(*pair) for pair in record.tags.items()] if self._tags.get(key) != record.tags else []
        for start in range(0, max(len(metrics), 1), BATCH):
            batch, first = metrics[start : start + BATCH], start == 0
            if batch or (first and (params or tags)):
                self._client.log_batch(run_id, batch, params if first else (), tags if first else ())
        if record.data and key not in self._described:
            self._client.log_inputs(run_id, [_data_set(each, self._fingerprint) for each in record.data])
            self._described.add(key)
        self._sent[key] = len(record.points)
        self._params[key] |= {param.key: param.value for param in params}
        self._tags[key] = record.tags
        last = max((point.timestamp for point in record.points), default=None)
        intent = _Intent(status, None if status == "RUNNING" else record.ended or last)
        if self._intents.get(key) != intent:
            with self._in_doubt(key):
                self._set_status(run_id, intent)
            self._intents[key] = intent
        return run_id

    def _set_status(self, run_id: str, intent: _Intent) -> None:
        if intent.status == "RUNNING":
            self._client.update_run(run_id, "RUNNING")
        else:
            self._client.set_terminated(run_id, intent.status, intent.ended)

    def _compare(self, key: str, record: Record, sent: int) -> None:
        """Note what an earlier process wrote to a run, or replace it if the ledger says otherwise."""
        run = self._client.get_run(self._runs[key])
        if key != SUMMARY and self._foreign(run, record):
            self._replace(key, run)
        else:
            self._params[key], self._sent[key] = dict(run.data.params), sent
            for name, value in record.looks.items():
                if name not in run.data.tags:
                    self._client.set_tag(run.info.run_id, name, value)
        self._histories.clear()

    def _create(self, key: str, experiment: str, record: Record) -> None:
        """Create a run, unless an unanswered request has created it; raise Later if it still may."""
        doubts = [doubt for doubt in self._doubts.values() if doubt.key == key]
        if doubts:
            tag = "kind = 'summary'" if key == SUMMARY else f"cell = '{key}'"
            runs = self._own_runs(f" and tags.{tag}").get(key)
            if runs:
                self._only(key, runs)
                return
            if any(doubt.until > time.monotonic() for doubt in doubts):
                raise Later
        start = min((point.timestamp for point in record.points), default=None)
        with self._in_doubt(key) as name:
            tags = {**self._source, **record.looks, **self._notes.get(key, {}), **record.tags, CREATION: name}
            run = self._client.create_run(experiment, start, tags, record.name)
        self._runs[key], self._params[key], self._sent[key] = str(run.info.run_id), {}, 0
        self._tags[key], self._intents[key] = record.tags, _Intent("RUNNING", None)

    @contextlib.contextmanager
    def _in_doubt(self, key: str) -> Iterator[str]:
        """Guard a request that is not to be carried out late: note it if it fails; give it a name."""
        name = uuid.uuid4().hex
        try:
            yield name
        except Exception as error:
            if answers.retryable(error):
                wait = DOUBT_SECONDS if answers.undecided(error) else 0.0
                self._doubts[name] = _Doubt(key, time.monotonic() + wait)
            raise

    def _replace(self, key: str, run: Run) -> None:
        """Delete a run that holds what the ledger does not, since MLflow removes no point, for a new one."""
        self._client.delete_run(run.info.run_id)
        self._forget(key)
        self._notes[key] = _notes(run)
        self._replaced += 1

    @property
    def _note_begins(self) -> str:
        """What this project's description of the sweep's run begins with; a person's is left alone."""
        return f"**Sweep {self._ledger.name}**"

    # Addresses

    def where_to_compare(self, command: str) -> list[str]:
        """Return lines that say where the final cells are compared; `command` serves that page here."""
        address = view_address(self._uri, self._experiments[FINAL], self._ledger.name)
        if uris.is_server(self._uri):
            return [f"Compare the cells in MLflow:  {address}"]
        return [
            f"Compare the cells in MLflow:  {command}",
            f"or start {uris.ui_command(self._uri)}",
            f"and open  {address}",
        ]


def _data_set(opened: Opened, fingerprint: str) -> DatasetInput:
    """Return opened images as MLflow names data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = {"num_rows": opened.count, "classes": list(opened.classes), "data": fingerprint}
    name = f"{opened.data_set} {opened.split}"
    digest = opened.digest[:LONGEST_DIGEST]
    data = Dataset(name, digest, "local", json.dumps({"fingerprint": fingerprint}), None, json.dumps(about))
    return DatasetInput(data, [InputTag("mlflow.data.context", opened.split)])


def _notes(run: Run) -> dict[str, str]:
    """Return the tags of a run that may be a person's: all but MLflow's own and its creation's."""
    tags = run.data.tags.items()
    return {n: v for n, v in tags if n == DESCRIPTION or not (n == CREATION or n.startswith("mlflow."))}


def _texts(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return metrics as texts, which are equal where both are not a number."""
    return {name: str(value) for name, value in metrics.items()}


class _Told:
    """An object whose methods call `answered` each time that they return."""

    def __init__(self, inner: object, answered: Callable[[], None]) -> None:
        self._inner, self._answered = inner, answered

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of the object."""
        method = getattr(self._inner, name)

        def call(*words: Any, **options: Any) -> Any:
            found = method(*words, **options)
            self._answered()
            return found

        return call


class _Finding(threading.Thread):
    """Looks for the runs until the server answers, it is certain that it will not, or `given_up` is set."""

    def __init__(self, find: Callable[[Insist], None], *, again: bool) -> None:
        """Take what looks for the runs; `again` says whether to try a step of it again after an error."""
        super().__init__(daemon=True)
        self.until = time.monotonic() + ANSWER_SECONDS
        self.trouble: BaseException | None = None
        """The latest error, None once the runs were found."""
        self.given_up = threading.Event()
        self._find, self._again = find, again

    def run(self) -> None:
        """Look for the runs."""
        try:
            self._find(self._insist)
            self.trouble = None
        except BaseException as error:  # raised again by the waiting thread
            self.trouble = error

    def _insist(self, step: Callable[[], T]) -> T:
        """Return what a step returns, which is tried again while that makes sense."""
        while True:
            try:
                return step()
            except Exception as error:
                self.trouble = error
                hopeless = isinstance(error, ImportError | Mistake) or answers.final(error)
                if hopeless or not self._again or time.monotonic() > self.until:
                    raise
                if self.given_up.wait(AGAIN_SECONDS):
                    raise


def experiment_of(uri: str, name: str) -> Experiment | None:
    """Return MLflow's experiment with a name, or None; nothing is made.

    Raise Mistake if MLflow is not installed or cannot be asked.
    """
    path = uris.sqlite_path(uri)
    if path is not None and not os.path.exists(path):  # MLflow would make it
        return None
    try:
        return import_client()(uri).get_experiment_by_name(name)
    except ImportError as error:
        raise Mistake(
            f"MLflow's pages cannot be shown, since {error.name or 'a module'} cannot be imported here: "
            "install the project as its README.md says."
        ) from None
    except Exception as error:  # MLflow's own, SQLAlchemy's, requests'
        raise Mistake(
            f"MLflow's records in {masked(uri)} cannot be read ({masked(one_line(error))}): start its "
            "server, or give another with --tracking-uri."
        ) from None

"""One attempt at a cell: from the ledger's newest checkpoint to its result.

It runs in whatever process, or group of processes, the executor gives it, and reports how far it is to a
function.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from orchestrator.execution.interruption import Interrupted, stop
from orchestrator.execution.stopped_trials import stop_at_rung
from orchestrator.ledger import attempts
from orchestrator.ledger.attempts import ONE_CPU, Usage
from orchestrator.ledger.ledger import Ledger, Superseded
from orchestrator.planning.cells import FINAL, run_of
from orchestrator.planning.plan import Assignment
from orchestrator.planning.plugins import load
from orchestrator.planning.sweep import Sweep
from trainables.cell import CellRun, History
from trainables.data.cache import prepare
from trainables.data.holdout import ANOMALY
from trainables.data.image_sets import load_set
from trainables.data.image_table import ImageTable
from trainables.data.named_images import NamedImages
from trainables.data.prepared import Prepared
from trainables.data.readers.request import DataRequest
from trainables.detectors import DETECTORS
from trainables.failures import PermanentFailure
from trainables.heartbeat import beat
from trainables.mistake import Mistake, one_line
from trainables.registry import source_digest
from trainables.run import parse_method
from trainables.scoring import Scores
from trainables.training_free_run import TrainingFreeRun
from trainables.workers import Workers

Report = Callable[[str, int], None]
"""Called with the cell's key and the number of epochs that the ledger holds."""

PATIENCE_SECONDS = 300.0
"""How long an attempt waits for a storage that does not answer, so that a hiccup costs no attempt."""


RUNG, VALUE = "rung", "value"
"""What an attempt that ended at a rung returns: the rung's epoch, and the validation accuracy there."""


def run_attempt(
    sweep: Sweep,
    assignment: Assignment,
    report: Report,
    workers: Workers | None = None,
    usage: Usage = ONE_CPU,
) -> dict[str, Any]:
    """Run a cell to its end, write its result into the ledger and return it.

    A search cell that is to train to a rung stops there with a checkpoint and a record of its validation
    accuracy, and {RUNG: epoch, VALUE: accuracy} is returned.

    With several workers each of them calls this; the first one writes, and all of them report and return
    alike. `usage` is what all of them take. A cell that is done already, by an attempt that died before it
    could say so, is left as it is. Raises PermanentFailure, such as Diverged if a final cell's loss is not
    finite, Superseded if another attempt has taken over, and Interrupted if it was asked to stop.
    """
    cell = assignment.cell
    load(sweep.plugins)
    workers, trains = workers or Workers(), parse_method(cell.method).trains
    wanted = sweep.specification.workers if trains and not assignment.stops else 1
    if workers.size != wanted:
        raise ValueError(f"a cell of {wanted} workers was given {workers.size}")
    torch.set_num_threads(sweep.specification.threads)
    there = workers.from_leader(sweep.ledger.read_result(cell.key) if workers.leads else None)
    if there is not None:
        report(cell.key, sweep.specification.recipe.epochs)
        return dict(there)
    started = time.time()
    if assignment.stops:
        return stop_at_rung(sweep, assignment, _device_name(sweep), usage)
    run = run_of(cell, sweep.specification, assignment.what)
    prepared = _prepared(sweep.data, sweep.fingerprint)
    named = sweep.settings.image_sets if cell.phase == FINAL else ()
    sets = [_image_set(each, prepared.side, prepared.channels) for each in named]
    running = (
        CellRun(run, prepared, workers, sweep.settings.detectors, sets, assignment.rungs)
        if trains
        else TrainingFreeRun(run, prepared, sets)
    )
    about_cell = {"cell": asdict(cell), "run": asdict(run), "opened": running.close_access_log()}
    if named:
        about_cell["image_sets"] = [
            {**asdict(each), "images": len(images)} for each, images in zip(named, sets, strict=True)
        ]
    attempt = 0
    if workers.leads:
        attempt = sweep.ledger.begin(cell.key, about_cell, device=_device_name(sweep), usage=usage)
    attempt = workers.from_leader(attempt)
    with _Account(sweep.ledger, cell.key, attempt, leads=workers.leads) as account:
        if isinstance(running, CellRun):
            account.resumed = _restore(running, sweep.ledger, cell.key)
            _train(sweep, cell.key, attempt, running, report, assignment.until)
            if assignment.until is not None and not running.diverged:
                account.paused = True
                return _at_rung(sweep.ledger, cell.key, attempt, running, assignment.until)
        else:
            running.score()
        about = {
            "number": attempt,
            "resumed_after_epoch": account.resumed,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "seconds": time.time() - started,
            "finished_at": time.time(),
        }
        result = _write_result(sweep, assignment, attempt, running, about)
        account.outdone = workers.leads and result["attempt"]["number"] != attempt
    if workers.leads and not sweep.settings.keep_checkpoints:
        sweep.ledger.remove_checkpoints(cell.key)
    return result


def _device_name(sweep: Sweep) -> str:
    """Return the name of this process's GPU if the sweep trains on GPUs, else "cpu"."""
    return torch.cuda.get_device_name() if sweep.specification.device == "cuda" else "cpu"


class _Account:
    """Closes the record of an attempt by how it ends; what it cannot write, the next attempt closes."""

    def __init__(self, ledger: Ledger, key: str, attempt: int, *, leads: bool) -> None:
        self._ledger, self._leads = ledger.with_patience(0.0), leads
        self._key, self._attempt = key, attempt
        self.resumed = 0
        self.outdone = False
        """Whether another attempt's result counts."""
        self.paused = False
        """Whether it has reached the rung to which it was to train."""

    def __enter__(self) -> _Account:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self._leads:
            return
        ending = attempts.SUPERSEDED if self.outdone else attempts.PAUSED if self.paused else attempts.DONE
        if isinstance(error, Superseded):
            ending = attempts.SUPERSEDED
        elif error is not None:
            asked = isinstance(error, Interrupted) or not isinstance(error, Exception)
            ending = attempts.INTERRUPTED if asked else attempts.FAILED
        said = None if error is None else one_line(error)
        with contextlib.suppress(OSError):
            self._ledger.end_attempt(self._key, self._attempt, ending, said, resumed=self.resumed)


def _train(
    sweep: Sweep, key: str, attempt: int, running: CellRun, report: Report, until: int | None = None
) -> None:
    """Train the epochs that are left, or those up to a rung, writing checkpoints beside the training."""
    workers, recorded = running.workers, _recorded(sweep.ledger, key)
    with _Writer(sweep, key, attempt) as writer:
        for row in running.epochs(until):
            epoch = int(row["epoch"])
            row.update(recorded.get(epoch, {}))
            last, at_rung = epoch == running.run.recipe.epochs, epoch == until
            ends = stop.asked and not last and not at_rung
            due = sweep.settings.keep_checkpoints if last else writer.due() or ends or at_rung
            if workers.leads and due:
                writer.put(epoch, running.snapshot(), list(running.history))
            if workers.leads and (ends or at_rung):
                writer.wait()
            written, ends = workers.from_leader((writer.take_written(), ends))
            for held in written:
                report(key, held)
            if ends:
                raise Interrupted(f"stopped after epoch {epoch}, as was asked")


def _at_rung(ledger: Ledger, key: str, attempt: int, running: CellRun, rung: int) -> dict[str, Any]:
    """Write the record of a rung, which a checkpoint holds, and return what the attempt returns."""
    value = running.validated(rung)
    if value is None:
        raise RuntimeError(f"the checkpoint of another sweep: it was not validated after epoch {rung}")
    if running.workers.leads:
        ledger.write_rung(key, attempt, rung, value)
    return {RUNG: rung, VALUE: value}


@functools.lru_cache(maxsize=2)
def _prepared(data: DataRequest, fingerprint: str) -> Prepared:
    """Open the prepared data, once per process."""
    return prepare(data, fingerprint)


@functools.lru_cache(maxsize=8)
def _image_set(wanted: NamedImages, side: int, channels: int) -> ImageTable:
    """Open an image set, once per process; raise PermanentFailure if it is not what the driver found."""
    try:
        return load_set(wanted, side, channels).table
    except Mistake as mistake:
        raise PermanentFailure(str(mistake)) from mistake


def _restore(running: CellRun, ledger: Ledger, key: str) -> int:
    """Load the newest checkpoint that is whole and return the epoch it was written after, 0 for none.

    The first worker finds it and hands its bytes to the others, so that all go on from the same one.
    """
    if not running.workers.leads:
        snapshot = running.workers.from_leader(None)
        if snapshot is not None:
            running.restore(snapshot)
        return running.training.epoch
    found = None
    for name in ledger.checkpoints(key):
        try:
            snapshot = ledger.read_checkpoint(key, name)
        except FileNotFoundError:
            continue
        # A cut or foreign file may fail in any way that torch.load knows; the next older one is tried.
        with contextlib.suppress(Exception):
            running.restore(snapshot)
            found = snapshot
            break
    running.workers.from_leader(found)
    return running.training.epoch


def _recorded(ledger: Ledger, key: str) -> dict[int, dict[str, float]]:
    """Return when the epochs that the ledger already holds were finished, and how fast they were.

    An epoch that is trained again after an interruption keeps these values, so that a tracker that heard of
    it once hears the same again.
    """
    return {
        int(row["epoch"]): {name: value for name, value in row.items() if name.startswith("speed/")}
        for row in ledger.read_curves(key)
    }


class _Writer:
    """Writes checkpoints beside the training: one at a time, in a thread of its own."""

    def __init__(self, sweep: Sweep, key: str, attempt: int) -> None:
        self._sweep, self._key, self._attempt = sweep, key, attempt
        self._written: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._last = self._asked = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.wait()
        self._pool.shutdown(wait=True)

    def take_written(self) -> list[int]:
        """Return the epochs of the checkpoints that were written since the last call."""
        written = []
        while not self._written.empty():
            written.append(self._written.get())
        return written

    def due(self) -> bool:
        """Return whether one more epoch like the last would make the newest checkpoint too old.

        To be called once per epoch.
        """
        now = time.monotonic()
        epoch, self._asked = now - self._asked, now
        return now - self._last + epoch > self._sweep.settings.checkpoint_seconds

    def put(self, epoch: int, snapshot: bytes, history: History) -> None:
        """Hand over a checkpoint once the one before is written; its error, if any, is raised here."""
        self.wait()
        self._pending = self._pool.submit(self._write, epoch, snapshot, history)
        self._last = time.monotonic()

    def wait(self) -> None:
        """Return once what was handed over is written; its error, if any, is raised here."""
        if self._pending is not None:
            beat("waiting for the last checkpoint to be written")
            self._pending.result()

    def _write(self, epoch: int, snapshot: bytes, history: History) -> None:
        # The curves come second: whatever epochs they show, a checkpoint holds.
        self._sweep.ledger.write_checkpoint(self._key, epoch, self._attempt, snapshot)
        self._sweep.ledger.write_curves(self._key, self._attempt, history)
        self._written.put(epoch)


def scores_table(scores: Scores, files: Sequence[str] | None = None) -> pa.Table:
    """Return a row per test image: index, label (-1: held out), is_anomaly, logits, and every detector.

    If images are files, given in the split's original order, each row has its own.
    """
    return pa.table(
        {
            "index": scores.index,
            "label": scores.label,
            "is_anomaly": scores.is_anomaly,
            "logits": _rows_of(scores.logits),
            **scores.by_detector,
            **_files_of(scores.index, files),
        }
    )


def _table_without_logits(running: TrainingFreeRun, files: Sequence[str] | None) -> pa.Table:
    """Return a row per test image: index, label (-1: held out), is_anomaly, and the method's score."""
    return pa.table(
        {
            "index": running.index,
            "label": running.label,
            "is_anomaly": running.label == ANOMALY,
            running.run.method: running.scores,
            **_files_of(running.index, files),
        }
    )


def _files_of(index: np.ndarray, files: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the column of files, if images are files."""
    return {} if files is None else {"file": [files[place] for place in index.tolist()]}


def tables_beside(running: CellRun | TrainingFreeRun) -> dict[str, pa.Table]:
    """Return, by image set, a row per image: index, logits if there are any, and every detector."""
    if isinstance(running, CellRun):
        return {name: table_beside(scores) for name, scores in running.scores_beside.items()}
    method = running.run.method
    return {
        name: pa.table({"index": np.arange(len(scores)), method: scores})
        for name, scores in running.scores_beside.items()
    }


def table_beside(scores: Scores) -> pa.Table:
    """Return a row per image of an image set: index, logits, and every detector."""
    return scores_table(scores).drop_columns(["label", "is_anomaly"])


def window_table(index: np.ndarray, window: Mapping[int, np.ndarray]) -> pa.Table | None:
    """Return a row per earlier evaluation and test image, epoch, index and logits; None if there is none."""
    if not window:
        return None
    epochs = sorted(window)
    return pa.table(
        {
            "epoch": np.repeat(epochs, len(index)),
            "index": np.tile(index, len(epochs)),
            "logits": _rows_of(np.concatenate([window[epoch] for epoch in epochs])),
        }
    )


def _detectors(running: CellRun | TrainingFreeRun) -> dict[str, dict[str, str]]:
    """Return what a final cell's result says of its detectors: by name, the digest of the source."""
    if running.scores is None:
        return {}
    names = running.scores.by_detector if isinstance(running, CellRun) else ()
    return {"detectors": {name: source_digest(DETECTORS.find(name)) for name in names}}


def _rows_of(logits: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1])


def cell_files(
    running: CellRun | TrainingFreeRun, files: Sequence[str] | None, *, keep_weights: bool
) -> dict[str, Any]:
    """Return what a cell leaves beside its result; `files` are those of the test images, if they have any."""
    if isinstance(running, TrainingFreeRun):
        return {"scores": _table_without_logits(running, files), "image_sets": tables_beside(running)}
    scores = running.scores
    return {
        "scores": None if scores is None else scores_table(scores, files),
        "window": None if scores is None else window_table(scores.index, running.window),
        "weights": running.weights() if keep_weights else None,
        "curves": running.history,
        "image_sets": tables_beside(running),
    }


def _write_result(
    sweep: Sweep,
    assignment: Assignment,
    attempt: int,
    running: CellRun | TrainingFreeRun,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write curves, scores, weights and result."""
    cell = assignment.cell
    files = _prepared(sweep.data, sweep.fingerprint).test_files
    stated = {"phase": cell.phase, **assignment.what.as_json(), "values": running.result()}
    if assignment.rungs and isinstance(running, CellRun):
        stated["rungs"] = {
            str(rung): value for rung in assignment.rungs if (value := running.validated(rung)) is not None
        }
    if isinstance(running, CellRun) and not running.workers.leads:
        return stated
    return sweep.ledger.finish(
        cell.key,
        attempt,
        {**stated, **_detectors(running)},
        about,
        **cell_files(running, files, keep_weights=cell.phase == FINAL and sweep.settings.keep_weights),
    )

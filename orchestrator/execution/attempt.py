"""One attempt at a cell: from the ledger's newest checkpoint to its result.

It runs in whatever process, or group of processes, the executor gives it and tells what it reaches to a
report function.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pyarrow as pa
import torch

from orchestrator.ledger.ledger import CURVES, RESULT, SCORES, Ledger
from orchestrator.planning.cells import Cell, run_of
from orchestrator.planning.specification import Conduct, Specification
from trainables.cell import CellRun, History
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared
from trainables.data.readers.request import DataRequest
from trainables.detectors.scoring import Scores
from trainables.workers import Workers

Report = Callable[[str, int], None]
"""Called with the cell's key and the epochs that the ledger holds."""


PATIENCE_SECONDS = 300.0
"""For which a trial tries a storage that is away again, so that a hiccup costs no attempt."""


@dataclass(frozen=True)
class Task:
    """What every trial of a sweep needs to know; sent once to each process."""

    specification: Specification
    conduct: Conduct
    ledger: Ledger
    data: DataRequest
    fingerprint: str


def run_trial(
    task: Task,
    cell: Cell,
    aux_weights: dict[str, float],
    report: Report,
    workers: Workers | None = None,
) -> dict:
    """Runs a cell to its end, writes its result into the ledger and returns it.

    With several workers each calls this; the first one writes, and all of them report and return alike.
    A cell that is done already, by an attempt that died before it could say so, is left as it is.
    Raises trainables.train.Diverged where a final cell's loss is not finite, Superseded where another
    attempt has taken over.
    """
    workers = workers or Workers()
    if workers.size != task.specification.workers:
        raise ValueError(f"a cell of {task.specification.workers} workers was given {workers.size}")
    torch.set_num_threads(task.specification.threads)
    there = workers.from_leader(task.ledger.result(cell.key) if workers.leads else None)
    if there is not None:
        report(cell.key, task.specification.recipe.epochs)
        return there
    started = time.time()
    run = run_of(cell, task.specification, aux_weights)
    running = CellRun(run, _prepared(task.data, task.fingerprint), workers)
    account = {"cell": asdict(cell), "run": asdict(run), "opened": running.close_access_log()}
    attempt = workers.from_leader(task.ledger.begin(cell.key, account) if workers.leads else 0)
    resumed = _restore(running, task.ledger, cell.key)
    recorded = _recorded(task.ledger, cell.key)
    with _Writer(task, cell.key, attempt) as writer:
        for row in running.epochs():
            epoch = int(row["epoch"])
            row.update(recorded.get(epoch, {}))
            last = epoch == run.recipe.epochs
            if workers.leads and (task.conduct.keep_checkpoints if last else writer.due()):
                writer.put(epoch, running.snapshot(), list(running.history))
            for held in workers.from_leader(writer.take_written()):
                report(cell.key, held)
    about = {
        "number": attempt,
        "resumed_after_epoch": resumed,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "seconds": time.time() - started,
        "finished_at": time.time(),
    }
    return _conclude(task, cell, attempt, running, aux_weights, about)


@functools.lru_cache(maxsize=2)
def _prepared(data: DataRequest, fingerprint: str) -> Prepared:
    """The prepared data, opened once a process."""
    return prepare(data, fingerprint)


def _restore(running: CellRun, ledger: Ledger, key: str) -> int:
    """Loads the newest checkpoint that is whole; the epoch it was written after, 0 for none.

    The first worker looks for it and hands its bytes to the others, so that all go on from the same one.
    """
    if not running.workers.leads:
        snapshot = running.workers.from_leader(None)
        if snapshot is not None:
            running.restore(snapshot)
        return running.training.epoch
    found = None
    for name in ledger.checkpoints(key):
        try:
            snapshot = ledger.read("cells", key, "checkpoint", name)
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
    """When epochs that the ledger already holds were finished, and how fast they were.

    An epoch that is trained again after an interruption keeps these, so that a tracker that was told of
    it once is told the same.
    """
    try:
        rows = ledger.read_table("cells", key, CURVES).to_pylist()
    except (FileNotFoundError, pa.ArrowException):
        return {}
    return {
        int(row["epoch"]): {name: value for name, value in row.items() if name.startswith("speed/")}
        for row in rows
    }


class _Writer:
    """Writes checkpoints beside the training: one at a time, in a thread of its own."""

    def __init__(self, task: Task, key: str, attempt: int) -> None:
        self._task, self._key, self._attempt = task, key, attempt
        self._written: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._last = self._asked = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pending is not None and error[0] is None:
            self._pending.result()
        self._pool.shutdown(wait=True)

    def take_written(self) -> list[int]:
        """The epochs of checkpoints written since the last call."""
        written = []
        while not self._written.empty():
            written.append(self._written.get())
        return written

    def due(self) -> bool:
        """Whether one more epoch like this one would make the last checkpoint too old; asked once each."""
        now = time.monotonic()
        epoch, self._asked = now - self._asked, now
        return now - self._last + epoch > self._task.conduct.checkpoint_seconds

    def put(self, epoch: int, snapshot: bytes, history: History) -> None:
        """Hands over a checkpoint, once the one before is written; its error, if any, is raised here."""
        if self._pending is not None:
            self._pending.result()
        self._pending = self._pool.submit(self._write, epoch, snapshot, history)
        self._last = time.monotonic()

    def _write(self, epoch: int, snapshot: bytes, history: History) -> None:
        ledger, key = self._task.ledger, self._key
        # The curves come second: whatever epochs they show, a checkpoint holds.
        ledger.write_checkpoint(key, epoch, self._attempt, snapshot)
        with ledger.writing(key, self._attempt):
            ledger.write_table(curves_table(history), "cells", key, CURVES)
        self._written.put(epoch)


def curves_table(history: History) -> pa.Table:
    """One row an epoch; metrics that an epoch was not evaluated for are null."""
    names = dict.fromkeys(name for row in history for name in row)
    return pa.table({name: pa.array([row.get(name) for row in history]) for name in names})


def scores_table(scores: Scores) -> pa.Table:
    """One row a test image: index, label (-1 for the held-out class), is_anomaly, logits, msp, odin."""
    classes = scores.logits.shape[1]
    logits = pa.FixedSizeListArray.from_arrays(pa.array(scores.logits.ravel()), classes)
    return pa.table(
        {
            "index": scores.index,
            "label": scores.label,
            "is_anomaly": scores.is_anomaly,
            "logits": logits,
            "msp": scores.msp,
            "odin": scores.odin,
        }
    )


def _conclude(
    task: Task, cell: Cell, attempt: int, running: CellRun, aux_weights: dict[str, float], about: dict
) -> dict:
    """Writes curves and scores, then the result that vouches for them, and drops the checkpoints."""
    ledger = task.ledger
    values = running.result()
    if not running.workers.leads:
        return {"values": values}
    with ledger.writing(cell.key, attempt):
        result = _write_result(ledger, cell, running, aux_weights, values, about)
    if not task.conduct.keep_checkpoints:
        ledger.remove_checkpoints(cell.key)
    return result


def _write_result(
    ledger: Ledger,
    cell: Cell,
    running: CellRun,
    aux_weights: dict[str, float],
    values: dict[str, object],
    about: dict,
) -> dict:
    """Scores and curves first; result.json, which vouches for them, last."""
    checksums = {}
    if running.scores is not None:
        checksums[SCORES] = ledger.write_table(scores_table(running.scores), "cells", cell.key, SCORES)
    # Curves hold speeds, so their checksum differs between equal runs and stands with the attempt.
    curves = ledger.write_table(curves_table(running.history), "cells", cell.key, CURVES)
    result = {
        "key": cell.key,
        "phase": cell.phase,
        "aux_weights": aux_weights,
        "values": values,
        "checksums": checksums,
        "attempt": {**about, "checksums": {CURVES: curves}},
    }
    ledger.write_json(result, "cells", cell.key, RESULT)
    return result

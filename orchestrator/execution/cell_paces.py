"""The pace of each kind of a sweep's cells, as one process measures it: what a probe runs on a machine."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Sequence

import torch

from orchestrator.execution.attempt import cell_files
from orchestrator.ledger.attempts import DONE
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import FINAL, Cell, lay_out, run_of
from orchestrator.planning.forecast import AROUND, Kind, Measured
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plugins import load
from orchestrator.planning.sweep import Sweep
from trainables.cell import CellRun
from trainables.data.cache import prepare
from trainables.data.image_sets import load_set
from trainables.pace import Pace, mean_pace
from trainables.probing import measure
from trainables.run import parse_method
from trainables.training_free_run import TrainingFreeRun

Paces = dict[Kind, Pace]
MOST_ROWS = 1000
"""Epochs whose curves are written to see how long that takes."""


def measured(found: Sequence[Paces], seconds: float, where: str, at_once: int, executor: str) -> Measured:
    """Return what processes measured beside each other."""
    paces = {kind: mean_pace([each[kind] for each in found]) for kind in found[0]}
    return Measured(paces, seconds, where, at_once, len(found), AROUND[executor])


def measure_kinds(sweep: Sweep, seconds: float, device: str | None = None) -> Paces:
    """Measure a cell of every phase and method in this process, for so many seconds in all."""
    if device is not None:  # Ray tells its own processes
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    load(sweep.plugins)
    torch.set_num_threads(sweep.specification.threads)
    chosen: dict[Kind, Cell] = {}
    for cell in lay_out(sweep.specification, sweep.fingerprint).all():
        chosen.setdefault((cell.phase, cell.method), cell)
    return {kind: _pace(sweep, cell, seconds / len(chosen)) for kind, cell in chosen.items()}


def _pace(sweep: Sweep, cell: Cell, seconds: float) -> Pace:
    """Measure a cell, the writing of its files into a ledger of no consequence included."""
    weights = dict.fromkeys(parse_method(cell.method).auxiliary, 1.0)
    run = run_of(cell, sweep.specification, Hyperparameters(weights))
    run = dataclasses.replace(run, workers=1)
    prepared = prepare(sweep.data, sweep.fingerprint)
    named = sweep.settings.image_sets if cell.phase == FINAL else ()
    sets = [load_set(each, prepared.side, prepared.channels).table for each in named]
    pace, running = measure(run, prepared, seconds, sweep.settings.detectors, sets)
    with tempfile.TemporaryDirectory() as folder:
        took = _write(sweep, cell, running, Ledger(folder, "probe"), prepared.test_files)
    return dataclasses.replace(pace, end=pace.end + took * pace.share)


def _write(
    sweep: Sweep,
    cell: Cell,
    running: CellRun | TrainingFreeRun,
    ledger: Ledger,
    files: Sequence[str] | None,
) -> float:
    """Write what a cell leaves, and return how many seconds that took."""
    recipe = sweep.specification.recipe
    if isinstance(running, CellRun):
        row = {"epoch": 0.0, "train/loss": 1.0, "train/accuracy": 0.5, "speed/finished_at": time.time()}
        running.history = [{**row, "epoch": float(epoch)} for epoch in range(min(recipe.epochs, MOST_ROWS))]
        if running.scores is not None:
            evaluations = range(1, min(recipe.ap_window, recipe.epochs))
            running.window = dict.fromkeys(evaluations, running.scores.logits)
    began = time.perf_counter()
    about = {"cell": dataclasses.asdict(cell), "opened": running.close_access_log()}
    attempt = ledger.begin(cell.key, about)
    keep = cell.phase == FINAL and sweep.settings.keep_weights
    ledger.finish(cell.key, attempt, {}, {}, **cell_files(running, files, keep_weights=keep))
    ledger.end_attempt(cell.key, attempt, DONE, None, resumed=0)
    return time.perf_counter() - began

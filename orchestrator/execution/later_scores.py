"""Detectors that are added to a sweep's finished final cells, without training.

A cell's scores and their record are written as soon as they are there, so a run that was stopped goes on
where it was. Cells that a detector of the same source has scored are left as they are.
"""

from __future__ import annotations

import socket
import sys
import time
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from orchestrator.cli.next_commands import resume_command
from orchestrator.ledger.later_scores import sources
from orchestrator.ledger.ledger import SCORES, Ledger
from orchestrator.planning.cells import FINAL, Cell, lay_out, run_of
from orchestrator.planning.data import check_named, open_data
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.request import DEFAULT_DATA, Request
from orchestrator.planning.specification import StoredSweep, data_request
from search_spaces import find_benchmark
from trainables.data.prepared import Prepared
from trainables.detectors import DETECTORS
from trainables.detectors.contract import LOGITS
from trainables.failures import DetectorFailed
from trainables.kept_weights import Trained, UnusableWeights, from_bytes, normalisation_of
from trainables.mistake import Mistake, counted
from trainables.registry import source_digest
from trainables.rescoring import LaterScores, NotReproduced, score_logits, score_network
from trainables.run import Run, parse_method
from trainables.scoring import Scores

Json = dict[str, Any]


class LaterScoring:
    """The finished final cells of a sweep, the detectors that each of them lacks, and their scoring."""

    def __init__(self, request: Request, ledger: Ledger, stored: StoredSweep) -> None:
        """Find what is to be scored and open the data if that needs it.

        Raise Mistake if nothing can be scored: no cell is finished, no weights were kept, or the data is not
        the sweep's.
        """
        self._request, self._ledger, self._stored = request, ledger, stored
        self._specification = stored.specification
        self.cells = lay_out(stored.specification, stored.fingerprint).all()
        finals = [cell for cell in self.cells if cell.phase == FINAL]
        self.results = ledger.read_results(cell.key for cell in finals)
        """Results of the finished final cells by key."""
        done = [cell for cell in finals if cell.key in self.results]
        self.finished = [cell for cell in done if parse_method(cell.method).trains]
        self.untrained = [cell for cell in done if not parse_method(cell.method).trains]
        self._unfinished = len(finals) - len(done)
        if not done or (request.detectors and not self.finished):
            if not stored.specification.trained:
                raise Mistake(
                    f"No method of the sweep {ledger.name!r} trains a network, which detectors would need."
                )
            raise Mistake(
                f"No final cell of the sweep {ledger.name!r} is finished, so none can be scored; go on "
                f"with it first: {resume_command(request, ledger.name)}"
            )
        self._detectors = {name: DETECTORS.find(name) for name in request.detectors}
        self._sources = {name: source_digest(found) for name, found in self._detectors.items()}
        self._failures: list[str] = []
        self._todo = self._missing()
        self._leave_out_cells_without_weights()
        if any(self._on_network(names) for names in self._todo.values()):
            _ = self.prepared

    @property
    def scored(self) -> list[str]:
        """Keys of the cells with later scores of these detectors, whether they were made now or before."""
        later = self._ledger.read_all_later(self.results)
        return [key for key, records in later.items() if records.keys() & self._sources.keys()]

    def run(self) -> list[str]:
        """Score what is missing; return a sentence for everything that could not be scored."""
        if not self._detectors:
            return []
        torch.set_num_threads(self._specification.threads)
        began, names = time.monotonic(), ", ".join(self._sources)
        left_out = f"; {self._unfinished} are not finished and left out" if self._unfinished else ""
        print(
            f"Sweep {self._ledger.name}: adding {names} to {len(self._todo)} of "
            f"{counted(len(self.finished), 'finished final cell')}{left_out}.",
            flush=True,
        )
        for number, (cell, missing) in enumerate(self._todo.items()):
            show_progress(f"{number}/{len(self._todo)} cells: {cell.label}")
            self._score_by_logits(cell, [name for name in missing if name not in self._on_network(missing)])
            self._score_by_network(cell, self._on_network(missing))
        show_progress("")
        print(f"That took {time.monotonic() - began:.1f} s.", flush=True)
        return self._failures

    # What is missing

    def _missing(self) -> dict[Cell, list[str]]:
        """Return the detectors that each cell lacks, or has from another source."""
        later, found = self._ledger.read_all_later(self.results), {}
        for cell in self.finished:
            there = sources(self.results[cell.key], later.get(cell.key, {}))
            lacks = [n for n, digest in self._sources.items() if there.get(n, "") not in (None, digest)]
            if lacks:
                found[cell] = lacks
        return found

    def _leave_out_cells_without_weights(self) -> None:
        """Leave to cells without weights the detectors on logits; raise Mistake if no cell has weights."""
        wanted = {cell: names for cell, names in self._todo.items() if self._on_network(names)}
        without = [cell for cell in wanted if not self.results[cell.key].get("weights")]
        if not without:
            return
        names = ", ".join(dict.fromkeys(name for cell in without for name in self._on_network(wanted[cell])))
        logits = ", ".join(name for name in DETECTORS.names if DETECTORS.find(name).needs == LOGITS)
        whose = f"{counted(len(without), 'finished cell')}, such as {without[0].label}"
        sentence = (
            f"No weights were kept of {whose} (version 0.1 kept none, nor does keep_weights=false), and "
            f"scoring by {names} needs the trained network: detectors on logits can be added: {logits}."
        )
        if len(without) == len(wanted):
            raise Mistake(sentence)
        self._failures.append(sentence)
        for cell in without:
            self._todo[cell] = [name for name in self._todo[cell] if name not in self._on_network([name])]
        self._todo = {cell: left for cell, left in self._todo.items() if left}

    def _on_network(self, names: list[str]) -> list[str]:
        """Return those of the detectors that need the trained network."""
        return [name for name in names if self._detectors[name].needs != LOGITS]

    @cached_property
    def prepared(self) -> Prepared:
        """The sweep's data; raises Mistake if it is other data."""
        path = self._request.data or self._stored.data or DEFAULT_DATA
        request = data_request(self._specification, path, cache=self._request.cache, download=False)
        if self._request.data:
            check_named(request)
        prepared = open_data(request)
        if prepared.fingerprint != self._stored.fingerprint:
            raise Mistake(
                f"The sweep {self._ledger.name!r} was begun on other data than {path}: give the data it was "
                "begun on, with --data."
            )
        return prepared

    # Scoring

    def _score_by_logits(self, cell: Cell, names: list[str]) -> None:
        if not names:
            return
        last, recipe = self.last(cell), self._specification.recipe
        earlier = _earlier(self._ledger.read_window(cell.key), last.index)
        weights = self._ledger.read_weights(self.results[cell.key])
        normalisation = None if weights is None else normalisation_of(weights)
        for name in names:
            started = time.time()
            try:
                found = score_logits(name, recipe, normalisation, last, earlier)
            except DetectorFailed as failure:
                self._failures.append(f"{cell.label}: {failure}")
            else:
                self._write(cell, name, last.index, found, [], started)

    def _score_by_network(self, cell: Cell, names: list[str]) -> None:
        if not names:
            return
        started, last = time.time(), self.last(cell)
        try:
            run = self.training_run(cell)
            found = score_network(names, run, self.trained(cell), self.prepared, last, self.device)
        except (UnusableWeights, NotReproduced) as error:
            self._failures.append(
                f"{cell.label}: the kept weights cannot be used for {', '.join(names)} ({error}); detectors "
                "on logits do not need them."
            )
            return
        for name, each in found.by_detector.items():
            if isinstance(each, DetectorFailed):
                self._failures.append(f"{cell.label}: {each}")
            else:
                self._write(cell, name, last.index, each, found.opened, started)

    def training_run(self, cell: Cell) -> Run:
        """Return the training run that a finished cell was."""
        return run_of(cell, self._specification, Hyperparameters.of(self.results[cell.key]))

    def trained(self, cell: Cell) -> Trained:
        """Return a cell's network; raise UnusableWeights if it is not there or not the recipe's."""
        weights = self._ledger.read_weights(self.results[cell.key])
        if weights is None:
            raise UnusableWeights("their file is missing or damaged")
        recipe = self.training_run(cell).recipe
        return from_bytes(weights, recipe, find_benchmark(self._specification.benchmark).channels)

    @property
    def device(self) -> torch.device:
        """The sweep's kind of device or, where there is no GPU, the CPU."""
        there = self._specification.device == "cuda" and torch.cuda.is_available()
        return torch.device("cuda" if there else "cpu")

    def last(self, cell: Cell) -> Scores:
        """Return the test images and the logits of a cell's last evaluation."""
        table = self._ledger.read_scores(cell.key)
        return Scores(table["index"].to_numpy(), table["label"].to_numpy(), _logits(table))

    def _write(
        self,
        cell: Cell,
        name: str,
        index: np.ndarray,
        found: LaterScores,
        opened: list[dict[str, object]],
        started: float,
    ) -> None:
        now = time.time()
        self._ledger.write_later(
            cell.key,
            name,
            pa.table({"index": index, name: found.scores}),
            {
                "label": self._detectors[name].label,
                "windowed": found.windowed,
                "source": self._sources[name],
                "of": self.results[cell.key]["checksums"][SCORES],
                "metrics": found.metrics,
                "by_epoch": {str(epoch): ap for epoch, ap in found.by_epoch.items()},
                "opened": opened,
                "attempt": {"host": socket.gethostname(), "seconds": now - started, "finished_at": now},
            },
        )


def _earlier(window: pa.Table | None, index: np.ndarray) -> dict[int, np.ndarray]:
    """Return the logits (n, K) of earlier evaluations of these images by epoch."""
    if window is None:
        return {}
    epochs, images, logits = window["epoch"].to_numpy(), window["index"].to_numpy(), _logits(window)
    rows = {int(epoch): epochs == epoch for epoch in np.unique(epochs)}
    return {epoch: logits[own] for epoch, own in rows.items() if np.array_equal(images[own], index)}


def _logits(table: pa.Table) -> np.ndarray:
    """Return the column of logits as a float32 array (n, K) of its own."""
    column = table["logits"].combine_chunks()
    return np.array(column.flatten(), dtype=np.float32).reshape(len(table), -1)


def show_progress(text: str) -> None:
    """Show on a terminal what is being done, in one line that the next call overwrites."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="\r" if not text else "", file=sys.stderr, flush=True)

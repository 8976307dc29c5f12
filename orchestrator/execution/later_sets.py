"""Image sets that are scored after a sweep, by every detector that its finished final cells have."""

from __future__ import annotations

import dataclasses
import socket
import time
from typing import Any

import pyarrow as pa
import torch

from orchestrator.execution.attempt import table_beside, tables_beside
from orchestrator.execution.later_scores import LaterScoring, show_progress
from orchestrator.ledger.later_scores import counted_sets, sources
from orchestrator.ledger.ledger import LATER_SETS, SCORES, Ledger
from orchestrator.planning.cells import Cell
from orchestrator.planning.data import check_image_sets
from orchestrator.planning.request import Request, image_sets
from orchestrator.planning.specification import SETTINGS, StoredSweep
from trainables.data.image_sets import load_set
from trainables.data.image_table import ImageTable
from trainables.data.named_images import NamedImages
from trainables.failures import DetectorFailed
from trainables.kept_weights import UnusableWeights
from trainables.mistake import Mistake, counted
from trainables.rescoring import NotReproduced, score_image_sets
from trainables.run import Run, parse_method
from trainables.training_free_run import TrainingFreeRun

Json = dict[str, Any]
_Found = tuple[dict[str, pa.Table], dict[str, float], list[dict[str, object]]]
"""Scores by image set, their metrics, and the images that were opened."""


class LaterSets:
    """The image sets that a request names, and the finished final cells that lack scores of them."""

    def __init__(self, request: Request, ledger: Ledger, stored: StoredSweep, scoring: LaterScoring) -> None:
        """Open the image sets; raise Mistake if one cannot be used, or has other images than before."""
        self._ledger, self._stored, self._scoring = ledger, stored, scoring
        before = {each.name: each.digest for each in stored.settings.image_sets}
        wanted = [dataclasses.replace(each, digest=before.get(each.name)) for each in image_sets(request)]
        self._sets = check_image_sets(wanted, scoring.prepared) if wanted else ()
        self._tables: dict[str, ImageTable] = {}
        for each in self._sets:
            self._tables[each.name] = load_set(each, scoring.prepared.side, scoring.prepared.channels).table
        self.scored: list[str] = []
        """Keys of the cells that have scores of the sets."""
        self._failures: list[str] = []
        self._cells = self._usable() if self._sets else []
        for cell in self._cells:
            self._check_same_images(cell)

    def keep(self) -> None:
        """Write the sets into sweep.json, so that cells that come later score the same images."""
        if not self._sets:
            return
        own = {each.name: each for each in (*self._stored.settings.image_sets, *self._sets)}
        settings = dataclasses.replace(self._stored.settings, image_sets=tuple(own.values()))
        self._ledger.write_sweep({**self._ledger.read_sweep(), SETTINGS: settings.as_json()})

    def run(self) -> list[str]:
        """Score what is missing; return a sentence for everything that could not be scored."""
        if not self._sets:
            return []
        torch.set_num_threads(self._stored.specification.threads)
        began, names = time.monotonic(), ", ".join(each.name for each in self._sets)
        todo = {cell: missing for cell in self._cells if (missing := self._missing(cell))}
        of = counted(len(self._cells), "finished final cell")
        print(f"Image sets {names}: to score by {len(todo)} of {of}.", flush=True)
        for number, (cell, missing) in enumerate(todo.items()):
            show_progress(f"{number}/{len(todo)} cells: {cell.label}")
            try:
                self._score(cell, missing)
            except (DetectorFailed, UnusableWeights, NotReproduced) as error:
                self._failures.append(f"{cell.label}: the image sets could not be scored ({error})")
        show_progress("")
        self.scored = [cell.key for cell in self._cells]
        print(f"That took {time.monotonic() - began:.1f} s.", flush=True)
        return self._failures

    def _usable(self) -> list[Cell]:
        """Return the finished final cells that can score images; raise Mistake if there are none."""
        trained = self._scoring.finished
        without = [cell for cell in trained if not self._scoring.results[cell.key].get("weights")]
        cells = [*(cell for cell in trained if cell not in without), *self._scoring.untrained]
        if without:
            which = f"{counted(len(without), 'finished cell')}, such as {without[0].label}"
            sentence = (
                f"No weights were kept of {which} (version 0.1 kept none, nor does keep_weights=false), and "
                "scoring image sets needs the trained network."
            )
            if not cells:
                raise Mistake(sentence)
            self._failures.append(sentence)
        return cells

    def _check_same_images(self, cell: Cell) -> None:
        """Raise Mistake if a cell scored a set of the same name with other images."""
        later = self._later(cell)
        for each in self._sets:
            if each.name in later and later[each.name]["image_set"]["digest"] != each.digest:
                raise Mistake(
                    f"The sweep {self._ledger.name!r} has scores of other images under the name "
                    f"{each.name!r}: give the image set another name."
                )

    def _later(self, cell: Cell) -> dict[str, Any]:
        result = self._scoring.results[cell.key]
        return dict(counted_sets(result, self._ledger.read_later(cell.key, LATER_SETS)))

    def _missing(self, cell: Cell) -> list[NamedImages]:
        """Return the sets of which a cell lacks scores by one of its detectors, as its source is now."""
        result, later, wanted = self._scoring.results[cell.key], self._later(cell), self._sources(cell)
        found = []
        for each in self._sets:
            record = later.get(each.name)
            if record is not None:
                there = record["sources"]
            else:
                scored = f"ood/{each.name}/skew" in result["values"]
                there = (result.get("detectors") or wanted) if scored else {}
            if there != wanted:
                found.append(each)
        return found

    def _sources(self, cell: Cell) -> dict[str, str | None]:
        """Return everything that scored a cell, its own detectors and later ones, with their sources."""
        if not parse_method(cell.method).trains:
            return {cell.method: None}
        return sources(self._scoring.results[cell.key], self._ledger.read_later(cell.key))

    def _score(self, cell: Cell, missing: list[NamedImages]) -> None:
        started, run = time.time(), self._scoring.training_run(cell)
        tables = [self._tables[each.name] for each in missing]
        score = self._by_network if parse_method(cell.method).trains else self._without_network
        scores, values, opened = score(cell, run, tables)
        for each in missing:
            metrics = {name: v for name, v in values.items() if name.startswith(f"ood/{each.name}/")}
            self._write(cell, each, scores[each.name], metrics, opened, started)

    def _by_network(self, cell: Cell, run: Run, tables: list[ImageTable]) -> _Found:
        network, last = self._scoring.trained(cell), self._scoring.last(cell)
        prepared, device = self._scoring.prepared, self._scoring.device
        found = score_image_sets(list(self._sources(cell)), run, network, prepared, last, tables, device)
        return {n: table_beside(scores) for n, scores in found.by_set.items()}, found.metrics, found.opened

    def _without_network(self, cell: Cell, run: Run, tables: list[ImageTable]) -> _Found:
        running = TrainingFreeRun(run, self._scoring.prepared, tables)
        opened = running.close_access_log()
        running.score()
        return tables_beside(running), running.result(), opened

    def _write(
        self,
        cell: Cell,
        image_set: NamedImages,
        scores: pa.Table,
        metrics: dict[str, float],
        opened: list[dict[str, object]],
        started: float,
    ) -> None:
        now = time.time()
        about: Json = {
            "image_set": {**dataclasses.asdict(image_set), "images": len(scores)},
            "of": self._scoring.results[cell.key]["checksums"][SCORES],
            "sources": self._sources(cell),
            "metrics": metrics,
            "opened": opened,
            "attempt": {"host": socket.gethostname(), "seconds": now - started, "finished_at": now},
        }
        self._ledger.write_later(cell.key, image_set.name, scores, about, LATER_SETS)

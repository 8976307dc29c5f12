"""A sweep as data frames, for notebooks and scripts; read from its ledger, which it leaves as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from orchestrator.ledger.later_scores import curves_with_later
from orchestrator.ledger.ledger import THREADS, Json, Ledger
from orchestrator.ledger.storage import default_storage
from orchestrator.planning.cells import Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.specification import Specification
from orchestrator.reporting.results import Final, Results, collect

CELL = ("method", "holdout", "seed", "search_index", "phase")
"""The columns that every frame begins with."""


@dataclass(frozen=True)
class OpenedSweep:
    """A sweep as its ledger was when it was opened, but for curves and scores, which are read when asked for.

    Each frame has the columns method, holdout, seed, search_index (missing for final cells) and phase
    ("search" or "final") first; accuracies and APs are in 0..1.
    """

    results: Results

    @property
    def specification(self) -> Specification:
        """What the sweep is: benchmark, methods, held-out classes, seeds, recipe, and what is searched."""
        return self.results.specification

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row per cell of the plan: key, state, hyperparameters and values; missing while it is not done.

        The values of final cells are called as in report/cells.csv, that of search cells is val_accuracy.
        """
        results = self.results
        rows = []
        for cell, state in results.states.items():
            row = {**_about(cell), "key": cell.key, "state": state, "attempts": results.attempts(cell)}
            if cell.key in self._finals:
                final = self._finals[cell.key]
                row |= _hyperparameters(final.what) | {"seconds": final.attempt.get("seconds")}
                row |= {name.removeprefix("final/"): value for name, value in final.values.items()}
            elif cell.key in results.searched:
                result = results.searched[cell.key]
                values = dict(result["values"])
                row |= _hyperparameters(Hyperparameters.of(result))
                row |= {"seconds": result["attempt"].get("seconds"), "val_accuracy": values.pop("value")}
                row |= values
            rows.append(row)
        return _frame(rows)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row per cell and epoch, also of cells that run: what training reported, such as train/loss."""

        def read(cell: Cell) -> pd.DataFrame:
            rows = self.results.ledger.read_curves(cell.key)
            if cell.key in self._finals:
                rows = curves_with_later(rows, self._finals[cell.key].later)
            return _frame([{**_about(cell), **row} for row in rows])

        return _joined(read, [cell for cell in self.results.states if self.results.attempts(cell)])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row per finished final cell and test image: label, is_anomaly, logits, each detector's score."""

        def read(cell: Cell) -> pd.DataFrame:
            ledger = self.results.ledger
            scores = ledger.read_scores(cell.key).to_pandas()
            for name in self._finals[cell.key].later:
                later = ledger.read_later_scores(cell.key, name).to_pandas()
                scores = scores.drop(columns=name, errors="ignore").merge(later, on="index", how="left")
            for place, (column, value) in enumerate(_about(cell).items()):
                scores.insert(place, column, value)
            return scores.astype({"search_index": "Int64"})

        return _joined(read, [final.cell for final in self._finals.values()])

    @cached_property
    def _finals(self) -> dict[str, Final]:
        return {final.cell.key: final for final in self.results.finals}


def open_sweep(name: str, storage: str | None = None) -> OpenedSweep:
    """Return a sweep by its name in a storage folder or URI; raise Mistake if it is not there.

    Without a storage it is looked for where commands look for it. It needs neither Ray nor MLflow nor torch,
    and writes nothing.
    """
    return OpenedSweep(collect(Ledger(storage or default_storage(), name)))


def _about(cell: Cell) -> Json:
    return {column: getattr(cell, column) for column in CELL}


def _hyperparameters(what: Hyperparameters) -> Json:
    weights = {f"aux_weight_{task}": weight for task, weight in what.aux_weights.items()}
    return {**weights, **what.fields}


def _frame(rows: list[Json]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*CELL, *(name for row in rows for name in row)])))
    return frame.astype({"search_index": "Int64"})  # whole numbers, of which some are missing


def _joined(read: Callable[[Cell], pd.DataFrame], cells: Iterable[Cell]) -> pd.DataFrame:
    """Return the frames of cells, read by many threads, below each other."""
    with ThreadPoolExecutor(THREADS) as pool:
        frames = [frame for frame in pool.map(read, cells) if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else _frame([])

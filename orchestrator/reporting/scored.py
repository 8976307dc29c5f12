"""What the final cells say of single test images, read from their scores: by the sweep's first detector."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestrator.ledger.ledger import THREADS
from orchestrator.planning.cells import Cell
from orchestrator.reporting.results import Final, Results
from trainables.run import NO_HOLDOUT, parse_method


@dataclass(frozen=True)
class Answers:
    """What a network takes n test images for: a kept class's number, int64 (n,), and how surely, in 0..1."""

    classes: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Scored:
    """The test images as a final cell scored them at the last evaluation, in the order of their index.

    `index`, int64 (n,), is the position in the test split; `scores` are floats (n,), higher for what is more
    anomalous; `is_anomaly` is bool (n,). `answers` is None for what trains nothing, `files` if images are not
    files.
    """

    cell: Cell
    index: np.ndarray
    scores: np.ndarray
    is_anomaly: np.ndarray
    answers: Answers | None
    files: tuple[str, ...] | None

    @property
    def held_out(self) -> np.ndarray:
        """Scores of the held-out class's images."""
        found: np.ndarray = self.scores[self.is_anomaly]
        return found

    @property
    def kept(self) -> np.ndarray:
        """Scores of the kept classes' images."""
        found: np.ndarray = self.scores[~self.is_anomaly]
        return found


Scores = dict[tuple[str, str], list[Scored]]
"""The final cells that hold a class out, in order of seed, by method and held-out class."""


def read_scored(results: Results) -> Scores:
    """Read the scores of the final cells that hold a class out, except those that say too little."""
    wanted = [f for f in results.finals if f.cell.holdout != NO_HOLDOUT]
    wanted.sort(key=lambda final: final.cell.seed)
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(lambda final: _read(results, final), wanted)
        found: Scores = {}
        for scored in read:
            if scored is not None:
                found.setdefault((scored.cell.method, scored.cell.holdout), []).append(scored)
    return found


def detector_of(results: Results, method: str) -> str:
    """Return what scores a method's test images here: the sweep's first detector, or the method itself."""
    return next(iter(results.detectors_of(method)))


def label_of(results: Results, method: str) -> str:
    """Return how a sentence names a method: with what scores its images in brackets."""
    if not parse_method(method).trains:
        return method
    return f"{method} ({results.detectors[0].label})"


def _read(results: Results, final: Final) -> Scored | None:
    detector = detector_of(results, final.cell.method)
    try:
        table = results.ledger.read_scores(final.cell.key)
        index, is_anomaly = table["index"].to_numpy(), table["is_anomaly"].to_numpy()
        source = table
        if detector in final.later:
            source = results.ledger.read_later_scores(final.cell.key, detector)
        scores = source[detector].to_numpy()
        answers = _answers(table) if "logits" in table.column_names else None
        files = table["file"].to_pylist() if "file" in table.column_names else None
    except (OSError, KeyError, pa.ArrowException):
        return None
    if len(scores) != len(index) or not is_anomaly.any() or is_anomaly.all():
        return None
    order = np.argsort(index, kind="stable")
    if answers is not None:
        answers = Answers(answers.classes[order], answers.confidence[order])
    named = None if files is None else tuple(files[row] or "" for row in order)
    return Scored(final.cell, index[order], scores[order], is_anomaly[order], answers, named)


def _answers(table: pa.Table) -> Answers:
    logits = np.asarray(table["logits"].combine_chunks().flatten(), np.float64).reshape(len(table), -1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Answers(logits.argmax(axis=1), 1 / shares.sum(axis=1))

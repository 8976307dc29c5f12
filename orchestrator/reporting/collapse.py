"""Networks that learned nothing: their cells are done and have numbers, which mean nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.reporting.results import ACCURACY, Final, Results
from trainables.run import parse_method

NEARLY_ALL = 0.95
"""A network that names one class for this share of the test images has collapsed..."""
LOPSIDED = 0.8
"""...unless one class has so many of them that a good network would name it as often."""


@dataclass(frozen=True)
class Collapse:
    """A final cell whose network learned nothing, and by what it shows."""

    label: str
    sign: str


def collapsed(results: Results) -> list[Collapse]:
    """Return the final cells whose network is no better than naming the same class for every image."""
    found = []
    for final in results.finals:
        accuracy = final.value(ACCURACY)
        if accuracy is None or not parse_method(final.cell.method).trains:
            continue
        sign = _sign(results, final, accuracy, _most_frequent(results, final.cell.holdout))
        if sign:
            found.append(Collapse(final.cell.label, sign))
    return found


def _sign(results: Results, final: Final, accuracy: float, share: float) -> str:
    """Return by what a collapse shows, empty if there is none; `share` is the most frequent class's."""
    if accuracy > share + (1 - NEARLY_ALL):  # more than naming one class so often could reach
        return ""
    named = _named_most(results, final.cell.key)
    if named is not None and named >= NEARLY_ALL and (share < LOPSIDED or accuracy <= share):
        return f"one class for {100 * named:.0f}% of the test images"
    if accuracy <= share:
        return f"accuracy {100 * accuracy:.1f}, where the most frequent class has {100 * share:.1f}%"
    return ""


def _most_frequent(results: Results, holdout: str) -> float:
    """Return the most frequent kept class's share of the test images; equal shares if they are not known."""
    classes, counts = results.classes, results.stored.test_counts
    numbers = counts if len(counts) == len(classes) else (1,) * len(classes)
    kept = [number for name, number in zip(classes, numbers, strict=True) if name != holdout]
    return max(kept) / sum(kept) if sum(kept) else 0.0


def _named_most(results: Results, key: str) -> float | None:
    """Return the share of a cell's kept test images that get its most frequent answer; None if unknown."""
    try:
        table = results.ledger.read_scores(key)
        if "is_anomaly" in table.column_names:
            table = table.filter(pc.invert(table["is_anomaly"]))
        column = table["logits"].combine_chunks()
    except (OSError, KeyError, pa.ArrowException):
        return None
    if not len(table):
        return None
    answers = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1).argmax(axis=1)
    return float(np.bincount(answers).max()) / len(table)

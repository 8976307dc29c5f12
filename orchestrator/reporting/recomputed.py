"""The numbers of a cell's result, computed again from its scores and curves, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.metrics import auroc, average_precision, fpr_at_95_tpr, metrics_beside

Json = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

TOLERANCE = 1e-9
"""Largest difference, in 0..1, that rounding on another processor explains."""

OF_ANOTHER_PASS = 1e-3
"""The same of scores of which some are those of another pass through the network: image sets' later ones."""

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "final/ap_{}_last": average_precision,
    "final/auroc_{}": auroc,
    "final/fpr95_{}": fpr_at_95_tpr,
}
"""What is stated of a detector's scores at the last evaluation."""


def of_search(values: Json, curves: Rows) -> dict[str, float]:
    """Return the value of a search cell, from its curves: the last epoch's validation accuracy."""
    if values.get("diverged"):
        return {"value": 0.0}
    return {"value": curves[-1]["val/accuracy"]} if curves else {}


def of_rungs(result: Json, curves: Rows) -> tuple[dict[str, float], dict[str, float]]:
    """Return a search cell's stated values at rungs, and those of its curves, by a name for people."""
    stated = {f"the value at rung {epoch}": value for epoch, value in result.get("rungs", {}).items()}
    known = {row["epoch"]: row.get("val/accuracy") for row in curves}
    again = {f"the value at rung {epoch}": known.get(int(epoch)) for epoch in result.get("rungs", {})}
    return stated, {name: value for name, value in again.items() if value is not None}


def of_final(values: Json, scores: pa.Table | None, curves: Rows, window: int) -> dict[str, float]:
    """Return those of a final cell's values that its scores and curves tell.

    `window` is the number of evaluations over which AP is averaged.
    """
    found: dict[str, float] = {}
    if curves and "final/test_accuracy_window" in values:
        found["final/test_accuracy_window"] = _mean(curves, "test/accuracy", window)
    if scores is None:
        return found
    is_anomaly = scores["is_anomaly"].to_numpy()
    if "logits" in scores.column_names:
        found["final/test_accuracy"] = _accuracy(scores, is_anomaly)
    if not is_anomaly.any():
        return found
    found["final/skew"] = float(is_anomaly.mean())
    for name in detectors_in(scores):
        found |= of_detector(name, scores[name].to_numpy(), is_anomaly)
        if all(row.get(f"ap/{name}") is not None for row in curves[-window:]) and curves:
            found[f"final/ap_{name}"] = _mean(curves, f"ap/{name}", window)
        elif not curves:  # nothing was trained, so there was one evaluation
            found[f"final/ap_{name}"] = found[f"final/ap_{name}_last"]
    return found


def of_detector(name: str, scores: np.ndarray, is_anomaly: np.ndarray) -> dict[str, float]:
    """Return what is stated of a detector's scores (n,) at the last evaluation."""
    return {metric.format(name): compute(scores, is_anomaly) for metric, compute in METRICS.items()}


def of_image_set(name: str, scores: pa.Table, beside: pa.Table) -> dict[str, float]:
    """Return what is stated of an image set, from the test images' scores and its own."""
    kept = ~scores["is_anomaly"].to_numpy()
    there = [each for each in detectors_in(beside) if each in scores.column_names]
    normal = {each: scores[each].to_numpy()[kept] for each in there}
    return metrics_beside(name, normal, {each: beside[each].to_numpy() for each in there})


def of_later(name: str, scores: pa.Table, table: pa.Table, *, image_set: bool) -> dict[str, float]:
    """Return what is stated of scores that came later: those of a detector, or of an image set."""
    if image_set:
        return of_image_set(name, scores, table)
    is_anomaly = scores["is_anomaly"].to_numpy()
    return of_detector(name, table[name].to_numpy(), is_anomaly) if is_anomaly.any() else {}


def detectors_in(scores: pa.Table) -> list[str]:
    """Return the detectors that a table has scores of."""
    about = ("index", "label", "is_anomaly", "logits", "file")
    return [name for name in scores.column_names if name not in about]


def differing(stated: Json, recomputed: Mapping[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """Return in words which stated values are not those that were computed again."""
    return [
        f"{name} is {stated[name]!r} and should be {value!r}"
        for name, value in recomputed.items()
        if name in stated and not _equal(stated[name], value, tolerance)
    ]


def _equal(stated: Any, value: float, tolerance: float) -> bool:
    return isinstance(stated, int | float) and math.isclose(stated, value, rel_tol=0, abs_tol=tolerance)


def _accuracy(scores: pa.Table, is_anomaly: np.ndarray) -> float:
    logits = scores["logits"].combine_chunks()
    by_image = np.asarray(logits.flatten()).reshape(len(scores), -1)
    right = by_image.argmax(1) == scores["label"].to_numpy()
    return float(right[~is_anomaly].mean())


def _mean(curves: Rows, metric: str, window: int) -> float:
    last = curves[-window:]
    return math.fsum(row[metric] for row in last) / len(last)

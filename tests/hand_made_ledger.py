"""Sweeps written into a ledger by hand, with values that tests can predict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import SEARCH, Cell, Cells, lay_out
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification
from trainables.run import NO_HOLDOUT, parse_method

FINGERPRINT = "f" * 16
Value = Callable[[Cell, str], float]


def specification(classes: tuple[str, ...] | None = None, **changes: Any) -> Specification:
    """Return a specification as the command line completes it, of digits 3 and 8 or of all classes given.

    Studies have 4 search cells unless `lambda_trials` says otherwise.
    """
    holdouts = () if classes else ("3", "8")
    lambda_trials = changes.pop("lambda_trials", 4)
    known = classes or tuple("0123456789")
    complete = draft(Request(**{"holdouts": holdouts, **changes})).complete("cpu", known)
    return dataclasses.replace(complete, lambda_trials=lambda_trials)


def write_sweep(
    storage: Path, wanted: Specification, *, name: str = "mine", classes: tuple[str, ...] | None = None
) -> tuple[Ledger, Cells]:
    """Write a sweep in which no cell has begun; return its ledger and cells."""
    ledger = Ledger(str(storage), name)
    values = {
        "specification": wanted.as_json(),
        "fingerprint": FINGERPRINT,
        "classes": list(classes or tuple("0123456789")),
        "versions": {},
    }
    ledger.write_sweep(values)
    return ledger, lay_out(wanted, FINGERPRINT)


def plain_value(cell: Cell, metric: str) -> float:
    """Return a value in 0..1 that differs by seed, method and metric."""
    base = {"ap_msp": 0.30, "ap_odin": 0.35, "test_accuracy": 0.90}.get(metric, 0.20)
    return base + 0.01 * cell.seed + (0.05 if cell.method == "rotation" else 0.0)


def search_weight(cell: Cell) -> float:
    """Return a search cell's lambda: 0.1, 0.2, 0.4, ..."""
    assert cell.search_index is not None
    return 0.1 * 2**cell.search_index


def search_value(cell: Cell) -> float:
    """Return a validation accuracy, highest at index 2, which is lambda 0.4."""
    assert cell.search_index is not None
    return 0.9 - 0.01 * abs(cell.search_index - 2)


def opened(cell: Cell, wanted: Specification, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the access log of a cell that opens all that it may."""
    kept = [name for name in classes if name != cell.holdout]
    found = [{"split": "train", "classes": kept, "count": 10 * len(kept), "digest": "d"}]
    if cell.phase != SEARCH:
        found.append({"split": "test", "classes": list(classes), "count": 2 * len(classes), "digest": "e"})
    return found


def finish(
    ledger: Ledger,
    wanted: Specification,
    cell: Cell,
    *,
    weights: dict[str, float] | None = None,
    value: Value = plain_value,
    classes: tuple[str, ...] = tuple("0123456789"),
    access_log: list[dict[str, Any]] | None = None,
    values: dict[str, Any] | None = None,
    scores: pa.Table | None = None,
    stated: dict[str, Any] | None = None,
) -> None:
    """Write a cell as done: cell.json, curves, scores if it is final, and result.json.

    `stated` is what result.json says beside.
    """
    if weights is None:
        number = search_weight(cell) if cell.phase == SEARCH else 0.4
        weights = dict.fromkeys(wanted.tasks(cell.method), number)
    about = {
        "cell": dataclasses.asdict(cell),
        "run": {"aux_weights": weights},
        "opened": access_log or opened(cell, wanted, classes),
    }
    attempt = ledger.begin(cell.key, about)
    if cell.phase == SEARCH:
        reported: dict[str, Any] = {"value": search_value(cell), "diverged": False}
    else:
        reported = final_values(cell, value, 1 / len(classes))
        scores = pa.table({"index": [0, 1], "msp": [0.1, 0.2]}) if scores is None else scores
    epochs = wanted.recipe.epochs if parse_method(cell.method).trains else 0
    reported |= {"epochs": epochs, **(values or {})}
    ledger.finish(
        cell.key,
        attempt,
        {"phase": cell.phase, "aux_weights": weights, "values": reported, **(stated or {})},
        {"number": attempt, "seconds": 1.5, "finished_at": 1000.0},
        scores=scores,
        curves=curve_rows(wanted, cell, reported) if parse_method(cell.method).trains else None,
    )


def scores_of(cell: Cell, classes: int = 10, images: int = 100, shift: float = 2.0) -> pa.Table:
    """Return scores of images whose classes follow one another, written by class as a cell does.

    Images of the held-out class score higher by `shift`, the spread of the scores being 1; the network takes
    every kept image for what it is, and those of the held-out class for the class after it.
    """
    held_out = int(cell.holdout)
    order = sorted(range(images), key=lambda number: number % classes)
    kept = [number % classes for number in order]
    is_anomaly = [label == held_out for label in kept]
    labels = [-1 if label == held_out else label - (label > held_out) for label in kept]
    columns: dict[str, Any] = {"index": order, "label": labels, "is_anomaly": is_anomaly}
    spread = [math.sin(12.9898 * (number + 1) + cell.seed) * 1.7 for number in order]
    values = [base + shift * odd for base, odd in zip(spread, is_anomaly, strict=True)]
    if not parse_method(cell.method).trains:
        return pa.table({**columns, cell.method: values})
    answers = [held_out % (classes - 1) if label < 0 else label for label in labels]
    logits = [[4.0 * (place == answer) for place in range(classes - 1)] for answer in answers]
    columns["logits"] = pa.array(logits, pa.list_(pa.float32(), classes - 1))
    return pa.table({**columns, "msp": values, "odin": values})


def final_values(cell: Cell, value: Value, skew: float) -> dict[str, Any]:
    """Return a final cell's reported values."""
    if not parse_method(cell.method).trains:
        own = f"ap_{cell.method}"
        return {} if cell.holdout == NO_HOLDOUT else {f"final/{own}": value(cell, own), "final/skew": skew}
    found: dict[str, Any] = {"final/test_accuracy": value(cell, "test_accuracy")}
    if cell.holdout != NO_HOLDOUT:
        for metric in ("ap_msp", "ap_odin"):
            found[f"final/{metric}"] = value(cell, metric)
            found[f"final/{metric}_last"] = value(cell, metric) + 0.001
        found["final/skew"] = skew
    return found


def curve_rows(wanted: Specification, cell: Cell, reported: dict[str, Any]) -> list[dict[str, Any]]:
    """Return curves that fall and rise as in training, evaluated at the last ap_window epochs."""
    epochs = wanted.recipe.epochs
    progress = [1 - math.exp(-4 * (e + cell.seed / 5) / epochs) for e in range(1, epochs + 1)]
    columns: dict[str, list[Any]] = {
        "epoch": list(range(1, epochs + 1)),
        "train/loss": [2.3 - 2.2 * p for p in progress],
        "train/accuracy": list(progress),
        "train/learning_rate": [0.1] * epochs,
        "speed/finished_at": [float(e) for e in range(epochs)],
    }
    if cell.phase == SEARCH:
        columns["val/accuracy"] = [reported["value"] * p for p in progress]
        return rows_of(columns)
    every = wanted.recipe.evaluate_every
    evaluated = [
        e > epochs - wanted.recipe.ap_window or (every > 0 and e % every == 0) for e in range(1, epochs + 1)
    ]
    finals = {"test/accuracy": "final/test_accuracy", "ap/msp": "final/ap_msp", "ap/odin": "final/ap_odin"}
    columns["test/loss"] = [
        2.3 - 2.0 * p if is_one else None for p, is_one in zip(progress, evaluated, strict=True)
    ]
    for name, source in finals.items():
        if source in reported:
            columns[name] = [
                reported[source] * p if is_one else None
                for p, is_one in zip(progress, evaluated, strict=True)
            ]
    return rows_of(columns)


def finish_all(ledger: Ledger, wanted: Specification, cells: Cells, **how: Any) -> None:
    """Write every cell of a sweep as done."""
    for cell in cells.all():
        finish(ledger, wanted, cell, **how)


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return columns of equal length as rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

"""What a disturbed sweep must have in common with an undisturbed one, and what it must not have left."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.sweeps import cells, comparable

VARYING = ("attempts", "seconds", "gpu_hours", "gpu_seconds", "cost")
"""Columns of cells.csv that may differ between equal sweeps."""
VARYING_METRICS = ("speed/", "cost/", "system/")
VARYING_TAGS = ("attempts", "ledger", "mlflow.", "creation", "cost")


def differences(undisturbed: Path, sweep: Path) -> Iterator[str]:
    """Compare two sweeps' folders: cells, results bit for bit, and tables."""
    first = cells(undisturbed)
    known = {folder.name: label for label, folder in first.items()}
    second = {}
    for result in sorted(sweep.glob("cells/*/result.json")):
        second[known.get(result.parent.name, result.parent.name)] = result.parent
        if not (result.parent / "cell.json").exists():
            yield f"a result without cell.json: {known.get(result.parent.name, result.parent.name)}"
    for label in sorted(first.keys() - second.keys()):
        yield f"lost: {label}"
    for label in sorted(second.keys() - first.keys()):
        yield f"one cell too many: {label}"
    begun = {path.name for path in (undisturbed / "cells").glob("*")}
    for key in sorted({path.name for path in (sweep / "cells").glob("*")} - begun):
        yield f"a folder of no cell: {key}"
    for label in sorted(first.keys() & second.keys()):
        if _comparable(first[label]) != _comparable(second[label]):
            yield f"another result: {label}"
    table = "report/table.csv"
    if _bytes(undisturbed / table) != _bytes(sweep / table):
        yield f"another {table}"
    if _rows(undisturbed / "report/cells.csv") != _rows(sweep / "report/cells.csv"):
        yield "another report/cells.csv"


def _comparable(cell: Path) -> object:
    """Return what equal runs share, or why it cannot be read."""
    try:
        return comparable(cell)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        return repr(error)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in VARYING} for row in rows]


def left_behind(storage: Path, sweep: Path, temporary: Path, *, damaged: bool) -> Iterator[str]:
    """Name what attempts and drivers have left that is of no use to anyone."""
    for path in sorted(storage.rglob("*.part")):
        yield f"left behind: {path.relative_to(storage)}"
    for path in sorted(sweep.glob("cells/*/checkpoint")):
        if (path.parent / "result.json").exists():  # a cell that failed may be tried again
            yield f"left behind: {path.relative_to(sweep)}"
    if (sweep / "damaged").exists() and not damaged:
        yield "a folder damaged/ though nothing was damaged"
    if temporary.exists():
        for path in sorted(temporary.iterdir()):
            yield f"left behind: TMPDIR/{path.name}"


def attempts_left_open(sweep: Path, *, damaged: bool) -> Iterator[str]:
    """Name the attempts whose record says that they still run; one that was damaged stays as it is."""
    for path in sorted(sweep.glob("cells/*/attempts/*.json")):
        try:
            ending = json.loads(path.read_bytes())["ending"]
        except (ValueError, KeyError, TypeError):
            ending = "unreadable"
        if ending == "running" or (ending == "unreadable" and not damaged):
            yield f"the record of an attempt that is over is {ending}: {path.relative_to(sweep)}"


def tracked_differently(undisturbed: Path, storage: Path, *, damaged: bool) -> Iterator[str]:
    """Compare what MLflow's database holds of two sweeps: runs, states, params, tags and points.

    A cell that was done and had to be trained again has the same points at other times.
    """
    first, second = _tracked(undisturbed / "mlflow.db"), _tracked(storage / "mlflow.db")
    for name, runs in sorted(second.items()):
        if len(runs) > 1:
            yield f"{len(runs)} MLflow runs of {name}"
    for name in sorted(first.keys() ^ second.keys()):
        yield f"MLflow run {'missing' if name in first else 'of no cell'}: {name}"
    for name in sorted(first.keys() & second.keys()):
        one, other = first[name][0], second[name][0]
        for field in one:
            if field == "doubled" and damaged:
                continue
            if one[field] != other[field]:
                yield f"MLflow's {field} of {name}: {_difference(one[field], other[field])}"


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, set):
        return f"lacks {sorted(one - other)[:3]}, has {sorted(other - one)[:3]}"
    return f"{other!r} instead of {one!r}"


def _doubled(points: Iterable[tuple[Any, ...]]) -> list[tuple[str, int]]:
    """Return the metrics and steps of which there are two points, speeds and costs included."""
    counted = Counter(point[:2] for point in points)
    return sorted(place for place, count in counted.items() if count > 1)


def _tracked(database: Path) -> dict[str, list[dict[str, Any]]]:
    if not database.exists():
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        runs = connection.execute(
            "select run_uuid, name, status, end_time is null from runs where lifecycle_stage = 'active'"
        ).fetchall()
        for run, name, status, unended in runs:
            tags = dict(connection.execute("select key, value from tags where run_uuid = ?", (run,)))
            points = connection.execute(
                "select key, step, value, is_nan from metrics where run_uuid = ?", (run,)
            ).fetchall()
            about = {
                "status": status,
                "end": bool(unended),
                "params": dict(
                    connection.execute("select key, value from params where run_uuid = ?", (run,))
                ),
                "tags": {k: v for k, v in tags.items() if not k.startswith(VARYING_TAGS)},
                "points": {point[:4] for point in points if not point[0].startswith(VARYING_METRICS)},
                # The sweep's own run has a point for each report.
                "doubled": _doubled(points) if "cell" in tags else [],
            }
            found.setdefault(tags.get("cell", name), []).append(about)
    return found

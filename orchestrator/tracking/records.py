"""The contents of MLflow's runs for a cell and for a sweep, read from the ledger; needs no MLflow.

MLflow refuses to change a param, and a sweep can grow. So the fields in which it may grow are also tags of
the sweep's own run: the tags are written anew each time and describe its current metrics, while its params
keep the values with which the sweep began.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ledger.later_scores import counted_later, counted_sets, own_values, without_sets
from orchestrator.ledger.ledger import LATER_SETS, Ledger
from orchestrator.ledger.spending import NOTHING, cost_metrics, spending
from orchestrator.planning.cells import FINAL, Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.specification import GROWING, Specification
from orchestrator.tracking.views import COLOUR_TAG, colour_of

NOT_METRICS = ("epoch", "speed/finished_at")
REPORTED = ("final/", "ood/")
"""What the names of a final cell's values begin with that are metrics."""
LONGEST_PARAM = 500


@dataclass(frozen=True)
class Point:
    """One value of a metric, with its epoch (`step`) and the ledger's time in milliseconds."""

    name: str
    value: float
    step: int
    timestamp: int


@dataclass(frozen=True)
class Opened:
    """Images of a data set: which split of it, of which classes, how many, and the digest of their names."""

    data_set: str
    split: str
    classes: tuple[str, ...]
    count: int
    digest: str


@dataclass(frozen=True)
class Record:
    """Contents of a run: its name and tags, its params, and the points of its metrics."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    points: list[Point] = field(default_factory=list)
    finished: bool = False
    later: int = 0
    """How many of the points, the last ones, are of detectors that came later."""
    held_back: list[Point] = field(default_factory=list)
    """Points that the ledger holds of epochs that may be trained again; a run may have them, but need not."""
    ended: int | None = None
    """When what the run records ended, in milliseconds; None for the time of its last point."""
    looks: dict[str, str] = field(default_factory=dict)
    """Tags of MLflow's own, given to a run that lacks them; on its page a person may change them."""
    data: tuple[Opened, ...] = ()
    """The images that were opened for the run."""


@dataclass(frozen=True)
class Summary:
    """What a report says of its sweep for MLflow."""

    metrics: dict[str, float]
    compared: Sequence[str]
    """MLflow's names of the metrics by which final cells are compared."""
    note: str
    """The tables, as Markdown."""
    results: str
    """The means by metric and method, as a sentence."""


def cell_record(cell: Cell, specification: Specification, ledger: Ledger) -> Record:
    """Return a cell's run as far as the ledger holds it: its curves, and its values if it is done."""
    about = ledger.read_cell(cell.key)
    run = about.get("run", {})
    fields = {name: run.get("recipe", {}).get(name) for name in specification.search}
    what = Hyperparameters(run.get("aux_weights", {}), {n: v for n, v in fields.items() if v is not None})
    result = ledger.read_result(cell.key)
    points, later_points, ended = _curves(ledger, cell.key), [], None
    held_back: list[Point] = []
    if result is None:
        # The last curves are written before the result; without one, only epochs that a checkpoint holds are
        # certain not to be trained again.
        held = ledger.newest_epoch(cell.key)
        held_back = [point for point in points if point.step > held]
        points = [point for point in points if point.step <= held]
    elif cell.phase == FINAL:
        epochs, ended = result["values"]["epochs"], _milliseconds(result["attempt"]["finished_at"])
        later = counted_later(result, ledger.read_later(cell.key))
        sets = counted_sets(result, ledger.read_later(cell.key, LATER_SETS))
        own = without_sets(own_values(result, later), sets).items()
        points += [Point(name, value, epochs, ended) for name, value in own if name.startswith(REPORTED)]
        later_points = [
            point for name, found in later.items() for point in _later_points(name, found, epochs)
        ]
        later_points += [
            Point(name, value, epochs, _milliseconds(record["attempt"]["finished_at"]))
            for record in sets.values()
            for name, value in record["metrics"].items()
        ]
    tags = {
        "kind": cell.phase,
        "sweep": ledger.name,
        "ledger": ledger.identity(),
        "cell": cell.key,
        "attempts": str(about.get("attempts", 0)),
    }
    if result is not None and result["values"].get("diverged"):
        tags["diverged"] = "true"
    if result is not None and "stopped_at" in result:
        tags["stopped_at"] = str(result["stopped_at"])
    if result is not None:
        points += _cost_points(cell, ledger, about, result)
    # A cell that failed before it wrote cell.json has no weights yet, and a param can be written only once.
    known = bool(about) or not (specification.tasks(cell.method) or specification.search)
    params = _params(cell, specification, what if known else None)
    return Record(
        cell.label,
        tags,
        params,
        points + later_points,
        finished=result is not None,
        later=len(later_points),
        held_back=held_back,
        ended=ended,
        looks={COLOUR_TAG: colour_of(cell.method, specification.methods)},
        data=tuple(
            Opened(
                specification.benchmark,
                each["split"],
                tuple(each["classes"]),
                int(each["count"]),
                str(each["digest"]),
            )
            for each in about.get("opened", ())
        ),
    )


def summary_record(
    specification: Specification, ledger: Ledger, metrics: dict[str, float], timestamp: float
) -> Record:
    """Return the sweep's own run: the metrics, the specification as params, and as tags where it may grow.

    `timestamp` is in seconds.
    """
    points = [Point(name, value, 0, _milliseconds(timestamp)) for name, value in metrics.items()]
    values = specification.as_json()
    recipe = {name: value for name, value in values.pop("recipe").items() if name not in specification.search}
    flat = {**recipe, **values}
    params = {name: _text(value) for name, value in flat.items() if value is not None}
    tags = {"kind": "summary", "sweep": ledger.name, "ledger": ledger.identity()}
    tags |= {name: params[name] for name in GROWING}
    return Record(ledger.name, tags, params, points, finished=True)


def _params(cell: Cell, specification: Specification, what: Hyperparameters | None) -> dict[str, str]:
    """Return a cell's params; those that are searched are left out as long as they are not known (None)."""
    number = {"seed": cell.seed} if cell.search_index is None else {"search_index": cell.search_index}
    if cell.search_index is not None and specification.search_seeds > 1:
        number["seed"] = cell.seed
    recipe = dataclasses.asdict(specification.recipe)
    lambdas: dict[str, float] = {}
    if what is None:
        recipe = {name: value for name, value in recipe.items() if name not in specification.search}
    else:
        recipe |= what.fields
        lambdas = {f"aux_weight.{task}": weight for task, weight in what.aux_weights.items()}
        if len(lambdas) < 2:
            lambdas = {"aux_weight": next(iter(lambdas.values()), 0)}
    values = {
        "benchmark": specification.benchmark,
        "method": cell.method,
        "holdout": cell.holdout,
        **number,
        **lambdas,
        **recipe,
        "world_size": specification.workers,
    }
    return {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST_PARAM else f"{text[: LONGEST_PARAM - 3]}..."


def _curves(ledger: Ledger, key: str) -> list[Point]:
    return [
        Point(name, value, int(row["epoch"]), _milliseconds(row["speed/finished_at"]))
        for row in ledger.read_curves(key)
        for name, value in row.items()
        if name not in NOT_METRICS and value is not None and math.isfinite(value)
    ]


def _cost_points(
    cell: Cell, ledger: Ledger, about: Mapping[str, Any], result: Mapping[str, Any]
) -> list[Point]:
    """Return what a cell that is done took, at its last epoch."""
    begun = int(about.get("attempts", 0))
    spent = spending(
        ledger.attempts_at(cell.key), result, begun, NOTHING, functools.partial(ledger.read_curves, cell.key)
    )
    at, epochs = _milliseconds(result["attempt"]["finished_at"]), result["values"]["epochs"]
    return [Point(name, value, epochs, at) for name, value in cost_metrics(spent).items()]


def _later_points(detector: str, record: Mapping[str, Any], epochs: int) -> list[Point]:
    """Return the points of a detector that scored a cell later, with the time at which it did."""
    at = _milliseconds(record["attempt"]["finished_at"])
    points = [Point(f"ap/{detector}", value, int(epoch), at) for epoch, value in record["by_epoch"].items()]
    return points + [Point(name, value, epochs, at) for name, value in record["metrics"].items()]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

"""What attempts at cells took, from the records that they left: hours of GPUs or CPUs, and what was lost.

Lost is the time of an attempt that did not end well, after the last epoch of its own that was gone on from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.attempts import PAUSED, RUNNING, Usage
from orchestrator.ledger.ledger import Ledger

Json = Mapping[str, Any]
HOUR = 3600.0


@dataclass(frozen=True)
class Spending:
    """What some attempts took; times are in seconds, each multiplied by the number of GPUs or CPUs."""

    attempts: int = 0
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    lost_gpu_seconds: float = 0.0
    lost_cpu_seconds: float = 0.0
    unrecorded: int = 0
    """How many of the attempts left no record: what these took is known in part or not at all."""

    def __add__(self, other: Spending) -> Spending:
        """Return what both took together."""
        return Spending(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def on_gpus(self) -> bool:
        """Whether any of it was on GPUs, whose hours then are what counts."""
        return self.gpu_seconds > 0

    @property
    def hours(self) -> float:
        """Hours of GPUs or, where there was none, of CPUs."""
        return (self.gpu_seconds if self.on_gpus else self.cpu_seconds) / HOUR

    @property
    def lost_hours(self) -> float:
        """How many of the hours were lost."""
        return (self.lost_gpu_seconds if self.on_gpus else self.lost_cpu_seconds) / HOUR


NOTHING = Usage(0.0, 0.0)


def cost_metrics(spent: Spending) -> dict[str, float]:
    """Return MLflow's metrics of what was taken; none if some attempt left no record, as in version 0.1."""
    if spent.unrecorded or not spent.attempts:
        return {}
    return {
        "cost/gpu_hours": spent.gpu_seconds / HOUR,
        "cost/cpu_hours": spent.cpu_seconds / HOUR,
        "cost/attempts": float(spent.attempts),
    }


def spent_on(
    ledger: Ledger,
    records: Mapping[str, Sequence[Json]],
    cells: Mapping[str, Json],
    results: Mapping[str, Json],
    usage: Usage,
) -> dict[str, Spending]:
    """Return what each cell that has begun has taken so far, by key.

    `records` has those of the attempts, `cells` the contents of cell.json, `results` those of result.json of
    the cells that are done. An attempt that is under way counts up to the last epoch that the ledger holds.
    """
    return {
        key: spending(
            records.get(key, ()),
            results.get(key),
            int(cells.get(key, {}).get("attempts", 0)),
            usage,
            functools.partial(ledger.read_curves, key),
        )
        for key in {**records, **cells, **results}
    }


def spending(
    records: Sequence[Json],
    result: Json | None,
    begun: int,
    usage: Usage,
    read_curves: Callable[[], Sequence[Json]],
) -> Spending:
    """Return what a cell has taken, from its attempts' records in order and its result, if it is done.

    `begun` is how many attempts there were. Curves are read only if an attempt has not ended well.
    """
    about = (result or {}).get("attempt", {})
    total, finished = Spending(), {}
    if any(record["attempt"] != about.get("number") for record in records):
        finished = {int(row["epoch"]): row.get("speed/finished_at") for row in read_curves()}
    for place, record in enumerate(records):
        is_result = record["attempt"] == about.get("number")
        later = records[place + 1 :]
        kept_epoch = later[0]["resumed_after_epoch"] if later else record["epoch"]
        kept = finished.get(kept_epoch) if kept_epoch > record["resumed_after_epoch"] else None
        ended = _end(record, about if is_result else {}, finished)
        took = max(0.0, ended - record["started"])
        under_way = record["ending"] == RUNNING and not later and result is None
        kept_all = is_result or under_way or record["ending"] == PAUSED
        lost = 0.0 if kept_all else max(0.0, ended - max(kept or 0.0, record["started"]))
        total += Spending(
            1, record["gpus"] * took, record["cpus"] * took, record["gpus"] * lost, record["cpus"] * lost
        )
    unrecorded = max(0, max(begun, int(bool(about))) - len(records))
    known = {record["attempt"] for record in records}
    took = float(about.get("seconds", 0.0)) if about.get("number") not in known else 0.0
    return total + Spending(unrecorded, usage.gpus * took, usage.cpus * took, unrecorded=unrecorded)


def _end(record: Json, about: Json, finished: Mapping[int, float | None]) -> float:
    """Return when an attempt ended; of one without an end, when its result or last epoch was finished."""
    if record["ended"] is not None:
        return float(record["ended"])
    own = [at for epoch, at in finished.items() if at and epoch > record["resumed_after_epoch"]]
    return float(about.get("finished_at") or max([record["started"], *own]))

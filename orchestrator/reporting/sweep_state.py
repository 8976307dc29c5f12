"""How far a sweep is, read from its ledger alone, which it leaves as it is."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ledger import attempts
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.owner import Owner, owner_of
from orchestrator.ledger.spending import spent_on
from orchestrator.planning.cells import Cell, lay_out
from orchestrator.planning.costs import Images, flops_by_key
from orchestrator.planning.specification import Specification, StoredSweep, read_stored
from orchestrator.reporting.costs import Cost, assumed_usage, total
from search_spaces import find_benchmark
from trainables.mistake import Mistake
from trainables.run import parse_method

DONE, RUNNING, FAILED, WAITING = "done", "running", "failed", "waiting"
STATUSES = (DONE, RUNNING, FAILED, WAITING)

RECENT_SECONDS = 600.0
"""How far back the pace is measured."""
FAILURES = (attempts.FAILED, attempts.STALLED, attempts.LOST)
"""Endings of attempts that somebody may want to look into."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """An attempt that failed, or of which nothing was heard any more."""

    label: str
    attempt: int
    ending: str
    error: str | None
    host: str
    at: float
    """When it ended, in Unix seconds."""


@dataclass(frozen=True)
class UnderWay:
    """A cell that is running: how many epochs the ledger holds of it, and where it runs."""

    label: str
    epoch: int
    epochs: int
    host: str
    attempt: int


@dataclass(frozen=True)
class SweepState:
    """How far a sweep is at some moment."""

    name: str
    storage: str
    at: float
    owner: Owner | None
    """Who runs it; None if nobody does."""
    counts: Mapping[tuple[str, str], Mapping[str, int]]
    """Numbers of cells by phase and method, and by status."""
    under_way: Sequence[UnderWay]
    epochs_per_second: float | None
    """Over the last RECENT_SECONDS at most; None if it does not run, or no epoch is done yet."""
    seconds_left: float | None
    failures: Sequence[Failure]
    """The latest first."""
    cost: Cost

    @property
    def totals(self) -> dict[str, int]:
        """Numbers of cells by status."""
        return {status: sum(found[status] for found in self.counts.values()) for status in STATUSES}

    @property
    def cells(self) -> int:
        """How many cells the sweep has."""
        return sum(self.totals.values())


@dataclass(frozen=True)
class _Span:
    """A stretch of training: between two moments so many epochs, and so much work, were done."""

    start: float
    end: float
    epochs: float
    work: float

    def after(self, moment: float) -> _Span:
        """Return the part of it after a moment, at an even pace."""
        length = self.end - self.start
        share = 1.0 if length <= 0 else min(1.0, max(0.0, self.end - moment) / length)
        return _Span(max(self.start, min(moment, self.end)), self.end, share * self.epochs, share * self.work)


@dataclass
class Watch:
    """Looks at a sweep again and again; what is done is read once."""

    ledger: Ledger
    price: float | None = None
    _results: dict[str, Json] = field(default_factory=dict)
    _about: dict[str, Json] = field(default_factory=dict)
    _records: dict[str, Sequence[Json]] = field(default_factory=dict)

    def look(self) -> SweepState:
        """Return the state now; raise Mistake if there is no such sweep, OSError if the storage is away."""
        stored = read_stored(self.ledger)
        cells = lay_out(stored.specification, stored.fingerprint).all()
        owner = owner_of(self.ledger)
        self._read([cell.key for cell in cells])
        now = time.time()
        states = {cell: self._status(cell.key, driven=owner is not None) for cell in cells}
        counts: dict[tuple[str, str], Counter[str]] = {}
        for cell, status in states.items():
            counts.setdefault((cell.phase, cell.method), Counter())[status] += 1
        running = {
            cell: self.ledger.read_curves(cell.key) for cell, status in states.items() if status == RUNNING
        }
        usage = assumed_usage(stored.specification)
        spent = spent_on(self.ledger, self._records, self._about, self._results, usage)
        speed, left = None, None
        if owner is not None:
            work = work_of(cells, stored)
            began = max(now - RECENT_SECONDS, owner.since or 0.0)
            spans = [span.after(began) for span in self._spans(running, stored.specification, work)]
            speed, left = _pace(spans, now, self._work_left(running, cells, stored.specification, work))
        return SweepState(
            name=self.ledger.name,
            storage=self.ledger.storage,
            at=now,
            owner=owner,
            counts=counts,
            under_way=[self._under_way(c, rows, stored.specification) for c, rows in running.items()],
            epochs_per_second=speed,
            seconds_left=left,
            failures=self._failures(cells),
            cost=total(spent, self.price),
        )

    def _read(self, keys: Sequence[str]) -> None:
        """Read all of the cells that were not done when they were read last."""
        wanted = [key for key in keys if key not in self._results]
        found = self.ledger.read_results(wanted)
        self._about |= self.ledger.read_cells(wanted)
        self._records |= self.ledger.read_attempts(wanted)
        self._results |= found

    def _status(self, key: str, *, driven: bool) -> str:
        """Return a cell's status; without records of attempts (version 0.1) one that has begun may run."""
        if key in self._results:
            return DONE
        records = self._records.get(key)
        ending = records[-1]["ending"] if records else (attempts.RUNNING if key in self._about else "")
        if ending == attempts.RUNNING:
            return RUNNING if driven else WAITING
        return FAILED if ending in (attempts.FAILED, attempts.STALLED) else WAITING

    def _under_way(self, cell: Cell, rows: Sequence[Json], specification: Specification) -> UnderWay:
        records = self._records.get(cell.key) or [{}]
        epoch = max([int(row["epoch"]) for row in rows], default=0)
        return UnderWay(
            cell.label,
            epoch,
            _epochs(cell, specification),
            records[-1].get("host", ""),
            records[-1].get("attempt") or int(self._about.get(cell.key, {}).get("attempts", 1)),
        )

    def _spans(
        self,
        running: Mapping[Cell, Sequence[Json]],
        specification: Specification,
        work: Mapping[str, float],
    ) -> Iterator[_Span]:
        """Yield the training that is known of: that of cells that are done, and epochs of running ones."""
        for key, result in self._results.items():
            about, epochs = result["attempt"], result["values"]["epochs"]
            trained = epochs - about.get("resumed_after_epoch", 0)
            share = trained / epochs if epochs else 1.0
            end = about["finished_at"]
            yield _Span(end - about["seconds"], end, trained, share * work.get(key, 0.0))
        for cell, rows in running.items():
            ends = [row["speed/finished_at"] for row in rows]
            each = work[cell.key] / max(1, _epochs(cell, specification))
            for start, end in itertools.pairwise(ends):
                yield _Span(start, end, 1, each)

    def _work_left(
        self,
        running: Mapping[Cell, Sequence[Json]],
        cells: Sequence[Cell],
        specification: Specification,
        work: Mapping[str, float],
    ) -> float:
        left = sum(work[cell.key] for cell in cells if cell.key not in self._results)
        for cell, rows in running.items():
            left -= len(rows) / max(1, _epochs(cell, specification)) * work[cell.key]
        return left

    def _failures(self, cells: Sequence[Cell]) -> list[Failure]:
        found = [
            Failure(
                cell.label,
                record["attempt"],
                record["ending"],
                record.get("error"),
                record.get("host", ""),
                record["ended"] or record["started"],
            )
            for cell in cells
            for record in self._records.get(cell.key, ())
            if record["ending"] in FAILURES
        ]
        return sorted(found, key=lambda failure: -failure.at)


def _epochs(cell: Cell, specification: Specification) -> int:
    return specification.recipe.epochs if parse_method(cell.method).trains else 0


def _pace(spans: Sequence[_Span], now: float, left: float) -> tuple[float | None, float | None]:
    """Return epochs per second of some spans until now, and the seconds that the work left takes so."""
    recent = [span for span in spans if span.work > 0]
    seconds = now - min((span.start for span in recent), default=now)
    if seconds <= 0:
        return None, None
    epochs, work = sum(span.epochs for span in recent), sum(span.work for span in recent)
    return epochs / seconds or None, left * seconds / work


def work_of(cells: Sequence[Cell], stored: StoredSweep) -> dict[str, float]:
    """Return each cell's work by key: FLOPs or, where they are not known without a plug-in, 1."""
    specification = stored.specification
    try:
        benchmark = find_benchmark(specification.benchmark)
        images = Images.of_benchmark(benchmark)
        if stored.images:
            images = Images.of_counts(stored.classes, stored.images, benchmark.channels)
        if images is not None:
            return dict(flops_by_key(cells, specification, images))
    except Mistake:  # defined by a plug-in, which is not run here
        pass
    return {cell.key: 1.0 for cell in cells}

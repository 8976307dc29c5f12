"""What a sweep will take, before it runs: hours of GPUs or CPUs, time on the clock, and storage.

The plan itself is run against a clock that is only counted, with so many cells at once. So searches come
before what waits for them, and trials that are halved stop where they would. How long a cell takes is what a
probe measured or, without one, follows from floating-point operations and an assumed rate.
"""

from __future__ import annotations

import functools
import heapq
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from orchestrator.planning.cells import FINAL, SEARCH, Cell, Cells, Definition, lay_out
from orchestrator.planning.costs import Images, flops_by_key, whole_flops
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import Assignment, Plan
from orchestrator.planning.specification import RunSettings, Specification
from orchestrator.planning.studies import History, Outcome
from trainables.networks.size import weight_bytes
from trainables.pace import Counts, Effort, Pace, counts_of, steps_per_epoch
from trainables.recipe import Recipe
from trainables.run import parse_method

MARGIN = 0.2
"""How far a machine's speed drifts between a probe and a sweep, as a share; what a probe saw comes on top."""
MOST_MARGIN = 0.9
AROUND = {"inline": 10.0, "ray": 25.0}
"""Seconds of a command beside its cells (imports, Ray, MLflow, the report) on two cores of an AMD EPYC."""
CPU_RATES = (3e9, 150e9)
"""FLOP/s of a thread: tiny networks reach the former, and wide ones on a fast processor the latter."""
GPU_RATES = (5e12, 300e12)
"""FLOP/s of a GPU: assumed, from an older one that waits for small steps to a large one at work."""
Kind = tuple[str, str]
"""A phase and a method."""


@dataclass(frozen=True)
class Range:
    """From the least to the most that something is expected to take."""

    low: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range of a multiple."""
        return Range(self.low * factor, self.high * factor)

    def plus(self, other: Range) -> Range:
        """Return the range of a sum."""
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Measured:
    """What a probe measured, where, and how many cells a sweep will run at once there."""

    paces: Mapping[Kind, Pace]
    seconds: float
    """How long it measured."""
    where: str
    """Such as "this machine"."""
    at_once: int
    processes: int
    """How many measured beside each other, as cells will run."""
    around: float
    """Seconds that the command takes beside its cells."""

    @property
    def share(self) -> float:
        """The share of the time in which a process had its CPU: less than 1 if other work runs there."""
        return statistics.fmean(pace.share for pace in self.paces.values()) if self.paces else 1.0


@dataclass(frozen=True)
class Schedule:
    """Seconds of all cells together, and on the clock."""

    busy: float
    wall: float


@dataclass(frozen=True)
class Storage:
    """Bytes that a sweep leaves in its ledger, and those of checkpoints while it runs."""

    scores: int
    windows: int
    weights: int
    records: int
    checkpoints: int

    @property
    def kept(self) -> int:
        """All that stays."""
        return self.scores + self.windows + self.weights + self.records


@dataclass(frozen=True)
class Expected:
    """What a sweep is expected to take; hours count each GPU or, where there is none, each CPU."""

    hours: Range
    wall: Range
    """Seconds on the clock."""
    at_once: int
    storage: Storage
    measured: Measured | None = None
    """None if it follows from floating-point operations."""


@dataclass(frozen=True)
class Outlook:
    """What a sweep will be, and what it is expected to take if the numbers of its images are known."""

    specification: Specification
    images: Images | None
    settings: RunSettings
    expected: Expected | None

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(lay_out(self.specification, fingerprint="").all())

    @property
    def flops(self) -> int | None:
        """Floating-point operations; None if the numbers of images are not known."""
        cells = lay_out(self.specification, fingerprint="").all()
        return sum(flops_by_key(cells, self.specification, self.images).values()) if self.images else None


class Work:
    """What the cells of a specification do, by number of images."""

    def __init__(self, specification: Specification, images: Images) -> None:
        self._specification = specification
        self._train = dict(zip(images.classes, images.train, strict=True))
        self._test = dict(zip(images.classes, images.test, strict=True))

    def effort(self, cell: Cell, after: int, until: int | None, rungs: tuple[int, ...] = ()) -> Effort:
        """Return what an attempt at a cell does that goes on after an epoch, up to another or to the end."""
        last = until or self._specification.recipe.epochs
        if not parse_method(cell.method).trains:
            return Effort()
        return self._effort(cell.phase, cell.holdout, after, last, rungs, until is None)

    @functools.cache  # noqa: B019
    def _effort(
        self, phase: str, holdout: str, after: int, last: int, rungs: tuple[int, ...], ends: bool
    ) -> Effort:
        specification, search = self._specification, phase == SEARCH
        recipe = specification.recipe
        counts = self._counts(holdout, search)
        evaluations = evaluations_between(recipe, after, last, rungs, search=search)
        return Effort(
            steps=(last - after) * steps_per_epoch(recipe, counts, specification.workers),
            epochs=last - after,
            evaluations=evaluations,
            evaluated_images=evaluations * -(-counts.evaluated // specification.workers),
            ends=ends,
        )

    def _counts(self, holdout: str, search: bool) -> Counts:
        return counts_of(self._specification.recipe, self._train, self._test, holdout, search=search)


def evaluations_between(
    recipe: Recipe, after: int, last: int, rungs: Collection[int], *, search: bool
) -> int:
    """Return how often a run is evaluated, or validated, after the epochs from after + 1 to last."""
    if not search:
        return sum(map(recipe.evaluates_after, range(after + 1, last + 1)))
    return sum(recipe.validates_after(epoch) or epoch in rungs for epoch in range(after + 1, last + 1))


Seconds = Callable[[Assignment, int], float]
"""How long an assignment takes of a cell that has been trained for so many epochs."""


def simulate(cells: Cells, epochs: int, seconds: Seconds, at_once: int) -> Schedule:
    """Run the plan with so many cells at once on a clock that is only counted."""
    plan, trained = Plan(cells, _stand_in), dict[str, int]()
    running: list[tuple[float, int, Assignment]] = []
    now, busy, handed = 0.0, 0.0, 0
    while True:
        while len(running) < at_once and (assignment := plan.next()) is not None:
            key = assignment.cell.key
            took = 0.0 if assignment.stops else seconds(assignment, trained.get(key, 0))
            trained[key] = assignment.until or epochs
            busy += took
            handed += 1
            heapq.heappush(running, (now + took, handed, assignment))
        if not running:
            return Schedule(busy, now)
        now, _, assignment = heapq.heappop(running)
        _end(plan, assignment)


def _end(plan: Plan, assignment: Assignment) -> None:
    """Tell the plan that an assignment is done, with a value that decides nothing."""
    key, until = assignment.cell.key, assignment.until
    if until is not None and not assignment.stops:
        plan.reached(key, until, 0.0)
        return
    value = 0.0 if assignment.cell.phase == SEARCH else None
    rungs = {rung: 0.0 for rung in assignment.rungs if until is None or rung <= until}
    plan.done(key, Outcome(assignment.what, value, rungs, until if assignment.stops else None))


def _stand_in(definition: Definition, past: History, index: int) -> Hyperparameters:
    """Return hyperparameters that differ by index: how long a cell takes does not depend on them."""
    weights = {task: 1.0 + index for task, _ in definition.spaces}
    return Hyperparameters(
        {**dict(definition.given), **weights}, {name: float(index) for name, _ in definition.fields}
    )


def from_probe(
    specification: Specification, images: Images, settings: RunSettings, measured: Measured
) -> Expected:
    """Return what a sweep is expected to take by what a probe measured of its own cells."""
    work = Work(specification, images)

    def seconds(assignment: Assignment, after: int) -> float:
        cell = assignment.cell
        effort = work.effort(cell, after, assignment.until, assignment.rungs)
        return measured.paces[cell.phase, cell.method].seconds(effort)

    cells = lay_out(specification, fingerprint="")
    found = simulate(cells, specification.recipe.epochs, seconds, measured.at_once)
    noise = max((2 * pace.noise for pace in measured.paces.values()), default=0.0)
    margin = min(MARGIN + noise, MOST_MARGIN)
    around = Range(1 - margin, (1 + margin) / measured.share)
    return Expected(
        around.times(found.busy * _units(specification) / 3600),
        around.times(found.wall + measured.around),
        measured.at_once,
        storage(specification, images, settings, measured.at_once),
        measured,
    )


def from_flops(specification: Specification, images: Images, settings: RunSettings, at_once: int) -> Expected:
    """Return what a sweep is expected to take by floating-point operations, at rates that are assumed."""
    epochs = specification.recipe.epochs
    kinds: dict[tuple[str, str, str], int] = {}

    def seconds(assignment: Assignment, after: int) -> float:
        cell = assignment.cell
        kind = (cell.phase, cell.method, cell.holdout)
        if kind not in kinds:
            kinds[kind] = whole_flops(cell, specification, images)
        return kinds[kind] * ((assignment.until or epochs) - after) / epochs

    found = simulate(lay_out(specification, fingerprint=""), epochs, seconds, at_once)
    low, high = (rate * _units(specification) for rate in rates(specification))
    around = Range(1 / high, 1 / low)
    return Expected(
        around.times(found.busy * _units(specification) / 3600),
        around.times(found.wall),
        at_once,
        storage(specification, images, settings, at_once),
    )


def rates(specification: Specification) -> tuple[float, float]:
    """Return the lowest and highest FLOP/s that are assumed of a GPU, or of a CPU's thread."""
    return GPU_RATES if specification.device == "cuda" else CPU_RATES


def _units(specification: Specification) -> int:
    """Return the GPUs of a cell or, where it has none, its CPUs."""
    return specification.workers * (1 if specification.device == "cuda" else specification.threads)


RECORDS = 8_000
"""Bytes of a cell's own records: what it is, opened and resulted in, its attempt and its curves."""
FLOAT, DOUBLE, EPOCH_OF_CURVES = 4, 8, 60


def storage(specification: Specification, images: Images, settings: RunSettings, at_once: int) -> Storage:
    """Return the bytes of a sweep's ledger, compression apart."""
    cells, recipe = lay_out(specification, fingerprint="").all(), specification.recipe
    finals = [cell for cell in cells if cell.phase == FINAL]
    trained = [cell for cell in finals if parse_method(cell.method).trains]
    tests, classes = sum(images.test), len(images.classes)
    window = min(recipe.ap_window, recipe.epochs) - 1
    logits = FLOAT * classes * tests
    each = DOUBLE * tests
    scores = len(trained) * (logits + each * (1 + len(settings.detectors)))
    scores += (len(finals) - len(trained)) * 2 * each
    network = weight_bytes(recipe, images.channels, classes)
    records = len(cells) * (RECORDS + EPOCH_OF_CURVES * recipe.epochs)
    tasks = [len(parse_method(cell.method).auxiliary) for cell in cells]
    largest = network * (2 + max(tasks, default=0)) + window * logits
    kept_of = len(cells) if settings.keep_checkpoints else min(at_once, len(cells))
    return Storage(
        scores,
        len(trained) * window * logits,
        len(trained) * network if settings.keep_weights else 0,
        records,
        kept_of * largest,
    )

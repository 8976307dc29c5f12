"""How a study picks what it tries next, and what it chooses; pure functions of the past.

Lists are tried in order, ranges from starting points on and then by Optuna's TPE sampler.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.planning.cells import Cell, Definition, Study
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.specification import ONE_SE, SMOOTHED, SPACED_STARTS
from orchestrator.planning.starting_points import starting_points
from trainables.spaces import Choices, Grid, Integers, LogUniform, Space, Uniform, Value

if TYPE_CHECKING:
    import optuna

MOST_SPACED = 8
"""Up to so many trials, TPE finds no better lambda than evenly spaced ones (benchmarks/search_quality.py)."""
SPACED_OF_SEVERAL = 4
"""Of several dimensions, where so few trials are spread thinly however they are spaced."""


@dataclass(frozen=True)
class Tried:
    """What was tried at a search index, the mean of its cells' validation accuracies, and its error."""

    index: int
    what: Hyperparameters
    value: float
    error: float | None = None
    """Standard error of the value over seeds; None for one seed."""


History = Sequence[Tried]
"""In order of search index."""


@dataclass(frozen=True)
class Outcome:
    """What the ledger says of a cell that is done: what it was trained with, and a search cell's value."""

    what: Hyperparameters
    value: float | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
    """Its validation accuracies at rungs before its end, by epoch."""
    stopped_at: int | None = None
    """The epoch of the rung from which it did not go on."""
    diverged: bool = False

    @staticmethod
    def of(result: Mapping[str, object]) -> Outcome:
        """Return what a cell's result says."""
        values: Mapping[str, object] = result["values"]  # type: ignore[assignment]
        rungs: Mapping[str, float] = result.get("rungs", {})  # type: ignore[assignment]
        return Outcome(
            Hyperparameters.of(result),
            values.get("value"),  # type: ignore[arg-type]
            {int(epoch): value for epoch, value in rungs.items()},
            result.get("stopped_at"),  # type: ignore[arg-type]
            bool(values.get("diverged")),
        )

    def at(self, rung: int, *, last: bool) -> float | None:
        """Return the value at a rung, 0 after a divergence; None if it was not reached."""
        if last or rung == self.stopped_at:
            return self.value if self.stopped_at in (None, rung) else None
        return self.rungs.get(rung, 0.0 if self.diverged else None)


def tried(study: Study, index: int, outcomes: Mapping[str, Outcome]) -> Tried | None:
    """Return what was tried at a search index with the mean of its cells' values, outcomes given by key.

    None until all of its cells have been trained to the end.
    """
    row = study.searches[index]
    found = [outcomes[cell.key] for cell in row if cell.key in outcomes]
    if len(found) < len(row) or any(outcome.stopped_at is not None for outcome in found):
        return None
    value, error = mean_value(row, [outcome.value or 0.0 for outcome in found])
    return Tried(index, ordered(study.definition, found[0].what), value, error)


def ordered(definition: Definition, what: Hyperparameters) -> Hyperparameters:
    """Return the same with tasks and fields in the study's order: the ledger's JSON sorts its keys."""
    tasks = [task for task, _ in (*definition.spaces, *definition.given)]
    return Hyperparameters(
        {task: what.aux_weights[task] for task in tasks},
        {name: what.fields[name] for name, _ in definition.fields},
    )


def mean_value(row: Sequence[Cell], values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of the values of an index's cells, and its standard error over their seeds."""
    mean = sum(values) / len(values)
    by_seed: dict[int, list[float]] = {}
    for cell, value in zip(row, values, strict=True):
        by_seed.setdefault(cell.seed, []).append(value)
    means = [statistics.fmean(each) for each in by_seed.values()]
    return mean, statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None


def history(study: Study, outcomes: Mapping[str, Outcome]) -> list[Tried]:
    """Return what a study has tried to the end.

    Without halving that is up to the first search index that is not complete.
    """
    found = []
    for index in range(len(study.searches)):
        result = tried(study, index, outcomes)
        if result is not None:
            found.append(result)
        elif not study.definition.halving:
            break
    return found


def opens_until(definition: Definition, complete: int) -> int:
    """Return up to which search index a study knows what to try, so many of the first being complete."""
    if definition.halving:
        return definition.trials
    first = starts_of(definition)
    if complete < first:
        return first
    size = definition.search_round
    return min(first + ((complete - first) // size + 1) * size, definition.trials)


def starts_of(definition: Definition) -> int:
    """Return how many search indices are known from the start; those of version 0.1 come by rounds."""
    if definition.halving or definition.lists_alone:
        return definition.trials
    if definition.starts != SPACED_STARTS:
        return 0
    return spaced_starts(definition.trials, len(definition.dimensions))


def spaced_starts(trials: int, dimensions: int) -> int:
    """Return how many of a study's trials are spaced evenly before TPE goes on (docs/search.md)."""
    return min(trials, SPACED_OF_SEVERAL if dimensions > 1 else max(MOST_SPACED, math.ceil(trials / 2)))


def suggest(definition: Definition, past: History, index: int) -> Hyperparameters:
    """Return what a study tries at a search index, given the values of all rounds before its own.

    Lists are taken in order (of several, all combinations), which repeats no point. Ranges begin with points
    that are spread evenly; later ones are asked of a TPE sampler whose seed comes from the sweep's seed, the
    study and the round. So a study that is rebuilt from the ledger asks for the same again, whatever happened
    in between.
    """
    names = [name for name, _ in definition.dimensions]
    if definition.lists_alone:
        return _named(definition, dict(zip(names, _listed(definition, index), strict=True)))
    starts = starts_of(definition)
    if index < starts:
        return _named(definition, _start(definition, index, starts))
    round_number, place = divmod(index - starts, definition.search_round)
    known = past[: starts + round_number * definition.search_round]
    return _named(definition, _sampled(definition, known, round_number + (starts > 0), place))


def choose(past: History, how: str = "best") -> Hyperparameters:
    """Return what has the highest value; of equal values, the smaller weights.

    `smoothed` takes the mean with the neighbours instead of each value, and `one-se` the smallest weights
    whose value is within a standard error of the highest.
    """
    values = smoothed(past) if how == SMOOTHED else {each.index: each.value for each in past}

    def place(each: Tried) -> tuple[float, tuple[float, ...], int]:
        return -values[each.index], tuple(each.what.aux_weights.values()), each.index

    best = min(past, key=place)
    if how == ONE_SE:
        within = [each for each in past if each.value >= best.value - (best.error or 0.0)]
        best = min(within, key=_size)
    return best.what


def _size(tried: Tried) -> tuple[Value, ...]:
    """Return what orders what was tried in one dimension."""
    return (*tried.what.aux_weights.values(), *tried.what.fields.values(), tried.index)


def smoothed(past: History) -> dict[int, float]:
    """Return, by search index, the mean of each value and its neighbours' in the one searched dimension."""
    by_size = sorted(past, key=_size)
    found = {}
    for place, each in enumerate(by_size):
        near = by_size[max(0, place - 1) : place + 2]
        found[each.index] = statistics.fmean(other.value for other in near)
    return found


def _named(definition: Definition, values: Mapping[str, Value]) -> Hyperparameters:
    weights = {task: float(values[definition.parameter(task)]) for task, _ in definition.spaces}
    return Hyperparameters(
        {**dict(definition.given), **weights}, {name: values[name] for name, _ in definition.fields}
    )


def _listed(definition: Definition, index: int) -> tuple[Value, ...]:
    """Return one of the combinations of lists; some of them, drawn without repeats, if there are more."""
    spaces = [space.values for _, space in definition.dimensions if isinstance(space, Grid | Choices)]
    count = math.prod(map(len, spaces))
    if count > definition.trials:
        drawn = random.Random(_seed(definition, 0)).sample(range(count), definition.trials)
        index = sorted(drawn)[index]
    return next(itertools.islice(itertools.product(*spaces), index, None))


def _start(definition: Definition, index: int, starts: int) -> dict[str, Value]:
    """Return one of the points that a study of ranges begins with, as Optuna hands it out."""
    shares = starting_points(starts, len(definition.dimensions), _seed(definition, 0))[index]
    study = _study(definition, [], 0)
    point = {
        name: space.at(share) for (name, space), share in zip(definition.dimensions, shares, strict=True)
    }
    study.enqueue_trial(point)
    return study.ask(distributions_of(definition)).params


def _sampled(definition: Definition, past: History, round_number: int, place: int) -> dict[str, Value]:
    """Return what the sampler suggests after the past, at a place of a round."""
    study = _study(definition, past, round_number)
    distributions = distributions_of(definition)
    for _ in range(place):
        study.ask(distributions)
    return study.ask(distributions).params


def _study(definition: Definition, past: History, round_number: int) -> optuna.Study:
    import optuna  # 0.5 s: not before a search needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaced = definition.starts == SPACED_STARTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=1 if spaced else max(2, definition.trials // 3),
            constant_liar=definition.search_round > 1,
            seed=_seed(definition, round_number),
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = distributions_of(definition)
    for each in past:
        params = parameters(definition, each.what)
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=each.value)
        )
    return study


def parameters(definition: Definition, what: Hyperparameters) -> dict[str, Value]:
    """Return what is searched by its name among Optuna's parameters."""
    weights = {definition.parameter(task): what.aux_weights[task] for task, _ in definition.spaces}
    return {**weights, **{name: what.fields[name] for name, _ in definition.fields}}


def distributions_of(definition: Definition) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return Optuna's distribution of everything that is searched."""
    return {name: _distribution(space) for name, space in definition.dimensions}


def _distribution(space: Space) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if isinstance(space, LogUniform | Uniform):
        return distributions.FloatDistribution(space.low, space.high, log=isinstance(space, LogUniform))
    if isinstance(space, Integers):
        return distributions.IntDistribution(space.low, space.high, log=space.log)
    return distributions.CategoricalDistribution(space.values)


def _seed(definition: Definition, round_number: int) -> int:
    held = ",".join(definition.holdouts)
    text = f"{definition.sweep_seed}/{definition.method}/{held}/{round_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

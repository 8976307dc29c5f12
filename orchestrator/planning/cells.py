"""The cells of a sweep and their keys.

A cell is one training run of the plan. Its key is a hash of everything that can change its result, so a
result in the ledger is the cell's own or it is not there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.planning.halving import rung_epochs
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.specification import BEST, RANDOM_STARTS, Specification
from trainables.run import Run, parse_method
from trainables.settings import values_of
from trainables.spaces import Choices, Grid, Space, Weighing

SEARCH, FINAL = "search", "final"
FORMAT = 3
"""Goes up whenever an equal specification would give other results."""

LAMBDA = "lambda."
"""What the name of a task begins with where names of searched fields stand beside it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of the plan; search cells have an index in their study, too.

    The search cells of one index differ in their holdouts and seeds, those of a study in what is searched.
    """

    key: str
    phase: str
    holdout: str
    method: str
    seed: int
    search_index: int | None = None

    @property
    def label(self) -> str:
        """The cell's name for people, such as METHOD/cat/s1, METHOD/cat/search3 or METHOD/cat/search3/s1."""
        number = f"s{self.seed}" if self.search_index is None else f"search{self.search_index}"
        if self.search_index is not None and self.seed:
            number += f"/s{self.seed}"
        return f"{self.method}/{self.holdout}/{number}"


@dataclass(frozen=True)
class Definition:
    """What a study is: equal definitions and equal values lead to the same lambda."""

    method: str
    holdouts: tuple[str, ...]
    spaces: tuple[tuple[str, Weighing], ...]
    """Each task and where its weight is searched."""
    trials: int
    """How many search indices it has: Optuna's trials. The name enters the keys of cells."""
    search_round: int
    sweep_seed: int
    fields: tuple[tuple[str, Space], ...] = ()
    """Each searched field of the recipe and where it is searched."""
    given: tuple[tuple[str, float], ...] = ()
    """Each task and its weight, if weights are given and only fields are searched."""
    starts: str = RANDOM_STARTS
    search_seeds: int = 1
    choose: str = BEST
    halving: int = 0
    epochs: int = 0
    """Epochs of a whole training if trials are halved, else 0."""

    @property
    def dimensions(self) -> tuple[tuple[str, Space], ...]:
        """Everything that is searched, by its name among Optuna's parameters."""
        return (*((self.parameter(task), space) for task, space in self.spaces), *self.fields)

    def parameter(self, task: str) -> str:
        """Return a task's weight's name among Optuna's parameters."""
        return task if self.starts == RANDOM_STARTS and not self.fields else f"{LAMBDA}{task}"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials are halved, and the last epoch; empty if they are not."""
        return rung_epochs(self.epochs, self.halving, self.trials) if self.halving else ()

    @property
    def lists_alone(self) -> bool:
        """Whether nothing is searched in a range."""
        return all(isinstance(space, Grid | Choices) for _, space in self.dimensions)

    def digest(self) -> str:
        """Return a hash; what version 0.1 did not have does not enter it at its default."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for field in dataclasses.fields(self):
            if field.default is not dataclasses.MISSING and values[field.name] == field.default:
                del values[field.name]
        for name in ("spaces", "fields"):
            if name in values:
                values[name] = [[searched, str(space)] for searched, space in values[name]]
        return _digest({"study": values})


@dataclass(frozen=True)
class Study:
    """A search for one method's weights: a row of cells for each search index, and what waits for it."""

    definition: Definition
    searches: tuple[tuple[Cell, ...], ...]
    finals: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The study's name for people."""
        held = self.definition.holdouts
        return f"{self.definition.method}/{held[0] if len(held) == 1 else 'all holdouts'}"


@dataclass(frozen=True)
class Cells:
    """All cells of a sweep: those in studies, and final cells whose weights are known from the start."""

    studies: tuple[Study, ...]
    free: Mapping[Cell, Hyperparameters]
    """Final cells that wait for no study, with their weights."""

    def all(self) -> list[Cell]:
        """Return every cell, search cells of a study before its final ones."""
        cells = list(self.free)
        for study in self.studies:
            cells += [cell for row in study.searches for cell in row]
            cells += study.finals
        return cells


def lay_out(specification: Specification, fingerprint: str) -> Cells:
    """Return the cells of a specification on data of this fingerprint."""
    keys = _Keys(specification, fingerprint)
    studies: list[Study] = []
    free: dict[Cell, Hyperparameters] = {}
    for method in specification.methods:
        if not specification.searches(method):
            weights = specification.given_weights(method) or {}
            origin = _digest({"weights": weights})
            finals = _finals(specification, specification.holdouts, method, keys, origin)
            free.update((cell, Hyperparameters(weights)) for cell in finals)
            continue
        for holdouts in _groups(specification, method):
            studies.append(_study(specification, method, holdouts, keys))
    return Cells(tuple(studies), free)


def _groups(specification: Specification, method: str) -> list[tuple[str, ...]]:
    """Return the holdouts that share a method's lambda."""
    if specification.lambda_of(method) == "holdout":
        return [(holdout,) for holdout in specification.holdouts]
    return [tuple(sorted(specification.holdouts))]  # the order in which they were named does not matter


def run_of(cell: Cell, specification: Specification, found: Hyperparameters) -> Run:
    """Return the training run that a cell is, once what is searched is known."""
    return Run(
        benchmark=specification.benchmark,
        holdout=cell.holdout,
        method=cell.method,
        seed=cell.seed,
        recipe=found.of_recipe(specification.recipe),
        aux_weights=found.aux_weights,
        search=cell.phase == SEARCH,
        sweep_seed=specification.sweep_seed,
        workers=specification.workers,
        threads=specification.threads,
        device=specification.device,
    )


class _Keys:
    """Keys of a sweep's cells; what all of them share is hashed once."""

    def __init__(self, specification: Specification, fingerprint: str) -> None:
        shared = {
            "format": FORMAT,
            "benchmark": specification.benchmark,
            "fingerprint": fingerprint,
            "recipe": values_of(specification.recipe),
            "sweep_seed": specification.sweep_seed,
            "workers": specification.workers,
            "threads": specification.threads,
            "device": specification.device,
        }
        if specification.grouped_by:  # which version 0.1 did not have
            shared["grouped_by"] = specification.grouped_by
        self._shared = _digest(shared)
        self._plugins = specification.plugins
        self._benchmark = specification.benchmark

    def key(self, phase: str, holdout: str, method: str, number: str, origin: str) -> str:
        used = (self._benchmark, *parse_method(method).auxiliary)
        plugins = [f"{name} {self._plugins[name]}" for name in used if name in self._plugins]
        text = "\n".join((self._shared, phase, holdout, method, number, origin, *plugins))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _finals(
    specification: Specification, holdouts: tuple[str, ...], method: str, keys: _Keys, origin: str
) -> list[Cell]:
    return [
        Cell(keys.key(FINAL, holdout, method, str(seed), origin), FINAL, holdout, method, seed)
        for holdout in holdouts
        for seed in range(specification.seeds_of(method))
    ]


def _study(specification: Specification, method: str, holdouts: tuple[str, ...], keys: _Keys) -> Study:
    definition = define(specification, method, holdouts)
    origin = definition.digest()
    searches = tuple(
        tuple(
            _search_cell(keys, definition, holdout, index, seed, origin)
            for holdout in holdouts
            for seed in range(definition.search_seeds)
        )
        for index in range(definition.trials)
    )
    return Study(definition, searches, tuple(_finals(specification, holdouts, method, keys, origin)))


def _search_cell(
    keys: _Keys, definition: Definition, holdout: str, index: int, seed: int, origin: str
) -> Cell:
    """Return a search cell; all of a study have the same seeds, so that only what is searched differs."""
    number = f"{index}/{seed}" if seed else str(index)
    key = keys.key(SEARCH, holdout, definition.method, number, origin)
    return Cell(key, SEARCH, holdout, definition.method, seed, index)


def define(specification: Specification, method: str, holdouts: tuple[str, ...]) -> Definition:
    """Return the study of a method for holdouts; raise Mistake for a bracket that cannot be halved."""
    tasks, given = specification.tasks(method), specification.aux_weights
    found = Definition(
        method,
        holdouts,
        () if given is not None else tuple((task, specification.spaces[task]) for task in tasks),
        trials=0,
        search_round=specification.search_round,
        sweep_seed=specification.sweep_seed,
        fields=tuple(sorted(specification.search.items())),
        given=() if given is None else tuple((task, given[task]) for task in tasks),
        search_seeds=specification.search_seeds,
        choose=specification.choose,
        halving=specification.halving,
        epochs=specification.recipe.epochs if specification.halving else 0,
    )
    found = dataclasses.replace(found, trials=_trials(specification, found))
    if not found.lists_alone:
        found = dataclasses.replace(found, starts=specification.starts)
    assert not found.halving or found.rungs
    return found


def _trials(specification: Specification, definition: Definition) -> int:
    """Return the number of search indices: a range has as many as were asked for, and lists are tried whole.

    Where fields are searched, every method has equally many, so that none is tuned more than another: at most
    as many as the smallest of the methods' lists has combinations.
    """
    asked = specification.lambda_trials
    if not specification.search:
        return _combinations(definition) or asked
    every = [_dimensions(specification, method) for method in specification.methods]
    finite = [count for spaces in every if spaces and (count := _combinations_of(spaces))]
    return min([asked, *finite])


def _combinations(definition: Definition) -> int | None:
    return _combinations_of([space for _, space in definition.dimensions])


def _combinations_of(spaces: Sequence[Space]) -> int | None:
    """Return how many points spaces have together, or None if one is a range."""
    count = 1
    for space in spaces:
        if not isinstance(space, Grid | Choices):
            return None
        count *= len(space.values)
    return count


def _dimensions(specification: Specification, method: str) -> list[Space]:
    """Return the spaces in which a method is searched."""
    if not specification.searches(method):
        return []
    weighed = specification.tasks(method) if specification.aux_weights is None else ()
    return [*(specification.spaces[task] for task in weighed), *specification.search.values()]

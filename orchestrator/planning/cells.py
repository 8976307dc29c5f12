"""The cells of a sweep and their keys.

A cell is one training run of the plan. Its key is a hash of everything that can change its result, so a
result in the ledger is the cell's own or it is not there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.planning.specification import Specification, Weights
from trainables.run import Run, parse_method
from trainables.settings import values_of
from trainables.spaces import Grid, LogUniform, Space

SEARCH, FINAL = "search", "final"
FORMAT = 3
"""Goes up whenever an equal specification would give other results."""

SEARCH_SEED = 0
"""Every search cell trains with this seed, so that only lambda tells the cells of a study apart."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of the plan: final cells have a seed, search cells an index in their study."""

    key: str
    phase: str
    holdout: str
    method: str
    seed: int
    search_index: int | None = None

    @property
    def label(self) -> str:
        """The cell's name for people, such as METHOD/cat/s1 or METHOD/cat/search3."""
        number = f"s{self.seed}" if self.search_index is None else f"search{self.search_index}"
        return f"{self.method}/{self.holdout}/{number}"


@dataclass(frozen=True)
class Definition:
    """What a study is: equal definitions and equal values lead to the same lambda."""

    method: str
    holdouts: tuple[str, ...]
    spaces: tuple[tuple[str, Space], ...]
    """Each task and where its weight is searched."""
    trials: int
    """How many search indices it has: Optuna's trials. The name enters the keys of cells."""
    search_round: int
    sweep_seed: int


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
    free: Mapping[Cell, Weights]
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
    free: dict[Cell, Weights] = {}
    for method in specification.methods:
        weights = specification.given_weights(method)
        if weights is not None:
            finals = _finals(specification, specification.holdouts, method, keys, {"weights": weights})
            free.update((cell, weights) for cell in finals)
            continue
        for holdouts in _groups(specification):
            studies.append(_study(specification, method, holdouts, keys))
    return Cells(tuple(studies), free)


def _groups(specification: Specification) -> list[tuple[str, ...]]:
    """Return the holdouts that share a lambda."""
    if specification.select == "holdout":
        return [(holdout,) for holdout in specification.holdouts]
    return [tuple(sorted(specification.holdouts))]  # the order in which they were named does not matter


def run_of(cell: Cell, specification: Specification, aux_weights: dict[str, float]) -> Run:
    """Return the training run that a cell is, once its weights are known."""
    return Run(
        benchmark=specification.benchmark,
        holdout=cell.holdout,
        method=cell.method,
        seed=cell.seed,
        recipe=specification.recipe,
        aux_weights=aux_weights,
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
        self._shared = _digest(shared)
        self._plugins = specification.plugins
        self._benchmark = specification.benchmark

    def key(self, phase: str, holdout: str, method: str, number: int, origin: str) -> str:
        used = (self._benchmark, *parse_method(method).auxiliary)
        plugins = [f"{name} {self._plugins[name]}" for name in used if name in self._plugins]
        text = "\n".join((self._shared, phase, holdout, method, str(number), origin, *plugins))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _finals(
    specification: Specification, holdouts: tuple[str, ...], method: str, keys: _Keys, origin: object
) -> list[Cell]:
    digest = _digest(origin)
    return [
        Cell(keys.key(FINAL, holdout, method, seed, digest), FINAL, holdout, method, seed)
        for holdout in holdouts
        for seed in range(specification.seeds_of(method))
    ]


def _study(specification: Specification, method: str, holdouts: tuple[str, ...], keys: _Keys) -> Study:
    spaces = tuple((task, specification.spaces[task]) for task in specification.tasks(method))
    definition = Definition(
        method,
        holdouts,
        spaces,
        _trials(specification, spaces),
        specification.search_round,
        specification.sweep_seed,
    )
    origin = {"study": {**dataclasses.asdict(definition), "spaces": [[t, str(s)] for t, s in spaces]}}
    digest = _digest(origin)
    searches = tuple(
        tuple(
            Cell(
                keys.key(SEARCH, holdout, method, index, digest), SEARCH, holdout, method, SEARCH_SEED, index
            )
            for holdout in holdouts
        )
        for index in range(definition.trials)
    )
    return Study(definition, searches, tuple(_finals(specification, holdouts, method, keys, origin)))


def _trials(specification: Specification, spaces: tuple[tuple[str, Space], ...]) -> int:
    """Return the number of search cells: lists are tried whole, a range as often as was asked for."""
    if any(isinstance(space, LogUniform) for _, space in spaces):
        return specification.lambda_trials
    count = 1
    for _, space in spaces:
        assert isinstance(space, Grid)
        count *= len(space.values)
    return count

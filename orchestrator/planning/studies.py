"""How a study picks its next lambda: Optuna for ranges, in order for lists; a pure function of the past."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.planning.cells import Definition, Study
from orchestrator.planning.specification import Weights
from trainables.spaces import Grid

History = Sequence[tuple[Weights, float]]
"""Weights that were tried and their validation accuracies, in order of search index."""


@dataclass(frozen=True)
class Outcome:
    """What the ledger says of a cell that is done: its weights and, for a search cell, its value."""

    aux_weights: Weights
    value: float | None = None


def tried(study: Study, index: int, outcomes: Mapping[str, Outcome]) -> tuple[Weights, float] | None:
    """Return the weights of a search index and the mean of its cells' values, outcomes given by key.

    None until all of its cells are done.
    """
    row = study.searches[index]
    if not all(cell.key in outcomes for cell in row):
        return None
    found = [outcomes[cell.key] for cell in row]
    # The ledger's JSON sorts its keys, and ties between weights go by the order of the study's tasks.
    weights = {task: found[0].aux_weights[task] for task, _ in study.definition.spaces}
    return weights, sum(outcome.value or 0.0 for outcome in found) / len(found)


def history(study: Study, outcomes: Mapping[str, Outcome]) -> list[tuple[Weights, float]]:
    """Return what a study has tried, up to the first search index that is not complete."""
    found = []
    for index in range(len(study.searches)):
        result = tried(study, index, outcomes)
        if result is None:
            break
        found.append(result)
    return found


def suggest(definition: Definition, past: History, index: int) -> Weights:
    """Return the weights of a study's search index, given the values of all rounds before its own.

    Ranges are searched by a TPE sampler whose seed comes from the sweep's seed, the study and the round, so a
    study that is rebuilt from the ledger asks for the same weights again, whatever happened in between. Lists
    are taken in order (for several tasks, all combinations), which repeats no point.
    """
    if all(isinstance(space, Grid) for _, space in definition.spaces):
        values = [space.values for _, space in definition.spaces if isinstance(space, Grid)]
        point = next(itertools.islice(itertools.product(*values), index, None))
        return {task: weight for (task, _), weight in zip(definition.spaces, point, strict=True)}
    round_number, place = divmod(index, definition.search_round)
    return _ask(definition, past[: round_number * definition.search_round], round_number, place)


def choose(past: History) -> Weights:
    """Return the weights with the highest value; of equal values, the smaller weights."""
    return min(past, key=lambda point: (-point[1], tuple(point[0].values())))[0]


def _ask(definition: Definition, past: History, round_number: int, place: int) -> Weights:
    import optuna  # 0.5 s: not before a search needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=max(2, definition.trials // 3),
        constant_liar=definition.search_round > 1,
        seed=_seed(definition, round_number),
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        task: optuna.distributions.CategoricalDistribution(space.values)
        if isinstance(space, Grid)
        else optuna.distributions.FloatDistribution(space.low, space.high, log=True)
        for task, space in definition.spaces
    }
    for weights, value in past:
        study.add_trial(optuna.trial.create_trial(params=weights, distributions=distributions, value=value))
    for _ in range(place):
        study.ask(distributions)
    return {task: float(weight) for task, weight in study.ask(distributions).params.items()}


def _seed(definition: Definition, round_number: int) -> int:
    held = ",".join(definition.holdouts)
    text = f"{definition.sweep_seed}/{definition.method}/{held}/{round_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

"""How a study chooses its next lambda: Optuna for ranges, in order for lists; a pure function of the past."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

from orchestrator.planning.cells import Definition
from search_spaces.benchmark import Grid

Weights = dict[str, float]
History = Sequence[tuple[Weights, float]]
"""Weights tried and their validation accuracies, in order of search index."""


def suggest(definition: Definition, history: History, index: int) -> Weights:
    """The weights of a study's search index, given the values of all rounds before its own.

    Ranges are searched by a TPE sampler whose seed comes from the sweep's seed, the study and the round,
    so a study rebuilt from the ledger asks for the same weights again, whatever happened meanwhile. Lists
    are taken in order (all their combinations, for several tasks), which repeats no point.
    """
    if all(isinstance(space, Grid) for _, space in definition.spaces):
        values = [space.values for _, space in definition.spaces if isinstance(space, Grid)]
        point = next(itertools.islice(itertools.product(*values), index, None))
        return {task: weight for (task, _), weight in zip(definition.spaces, point, strict=True)}
    round_number, place = divmod(index, definition.search_round)
    past = history[: round_number * definition.search_round]
    return _ask(definition, past, round_number, place)


def choose(history: History) -> Weights:
    """The weights of the highest value; of equal values, the smaller weights."""
    return min(history, key=lambda tried: (-tried[1], tuple(tried[0].values())))[0]


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

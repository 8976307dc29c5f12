"""A report's sentences on how hyperparameters were chosen, how sure that is, and what halving saved."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

from orchestrator.planning.specification import BEST, ONE_SE, PAPER, SMOOTHED, Specification
from orchestrator.reporting.results import Results, Selection
from search_spaces.benchmark import Benchmark
from trainables.mistake import counted
from trainables.run import NO_HOLDOUT
from trainables.spaces import Choices


def how_chosen(specification: Specification) -> str:
    """Return how lambda, and whatever else is searched, was chosen; empty if there is nothing to choose."""
    tasks = any(specification.tasks(method) for method in specification.methods)
    given = specification.aux_weights is not None
    parts = ["lambda was given."] if tasks and given else []
    searched = [*(["lambda"] if tasks and not given else []), *specification.search]
    if not searched or not specification.trained:
        return " ".join(parts)
    kinds = {specification.lambda_of(m) for m in specification.methods if specification.searches(m)}
    alone = specification.holdouts == (NO_HOLDOUT,)
    words = {"holdout": "the benchmark" if alone else "each held-out class", "benchmark": "the benchmark"}
    for_each = " or ".join(dict.fromkeys(words[kind] for kind in words if kind in kinds))
    if specification.search:
        for_each += " and method"
    were = "was" if len(searched) == 1 else "were"
    seeds = specification.search_seeds
    accuracy = "validation accuracy" if seeds == 1 else f"validation accuracy, the mean of {seeds} seeds"
    rule = {
        SMOOTHED: "the best mean with its neighbours",
        ONE_SE: "the smallest within one standard error of the best",
    }
    how = f" ({rule[specification.choose]})" if specification.choose in rule else ""
    named = f"{', '.join(searched[:-1])} and {searched[-1]}" if len(searched) > 1 else searched[0]
    return " ".join([*parts, f"{named} {were} chosen for {for_each}, by {accuracy}{how}."])


def protocol(specification: Specification, benchmark: Benchmark) -> list[str]:
    """Return how the choice of lambda agrees with the paper's, as far as that is known."""
    searched = [m for m in specification.methods if specification.searches(m)]
    tasks = dict.fromkeys(task for m in searched for task in specification.tasks(m))
    known = {task: benchmark.paper_selection[task] for task in tasks if task in benchmark.paper_selection}
    if not known or specification.aux_weights is not None:
        return []
    found = []
    for task, paper in known.items():
        if specification.protocol == PAPER:
            found.append(
                f"lambda of {task} was chosen as the paper did, where it says how ({paper.known}); inferred "
                f"is {paper.inferred}."
            )
            continue
        ours = {specification.lambda_of(m) for m in searched if task in specification.tasks(m)}
        alike = (
            specification.search,
            specification.choose,
            specification.search_seeds,
            specification.halving,
        )
        same = ours == {paper.for_each} and specification.spaces[task] == paper.space
        same = same and alike == ({}, BEST, 1, 0)
        found.append(
            f"The choice of lambda of {task} {'agrees with' if same else 'departs from'} the paper's "
            f"({paper.known}); --protocol paper follows it."
        )
    alone = specification.holdouts == (NO_HOLDOUT,)
    if not alone and any(specification.lambda_of(method) == "benchmark" for method in searched):
        found.append(
            "Under one lambda for the benchmark, the searches of the other classes saw each held-out class "
            "as a known one."
        )
    return found


def certainty(results: Results) -> list[str]:
    """Return in how many studies the choice is not told from its neighbours, where seeds tell the noise."""
    studies = [s for s in results.selections if s.chosen is not None and len(s.points) > 1 and _ordered(s)]
    if not studies or results.specification.halving:  # neighbours may have stopped at a rung
        return []
    if results.specification.search_seeds == 1:
        return [
            f"Each {_tried_things(results)} was tried with one seed, so how much of their differences is "
            "noise is not known; --search-seeds 3 would tell."
        ]
    unsure = [study for study in studies if not _stands_out(study)]
    if not unsure:
        return [f"The choice stands out from its neighbours in {_all(len(studies))}."]
    return [
        f"The choice is not distinguishable from a neighbour in {len(unsure)} of "
        f"{counted(len(studies), 'study', 'studies')}: their validation accuracies "
        "differ by no more than noise explains (95%, Student's t over seeds)."
    ]


def halving(results: Results) -> list[str]:
    """Return what successive halving saved, and how well rungs foretold what came after them."""
    eta = results.specification.halving
    if not eta:
        return []
    whole = results.specification.recipe.epochs
    sound = {key: r["values"] for key, r in results.searched.items() if not r["values"].get("diverged")}
    done = [int(values.get("epochs", whole)) for values in sound.values()]
    if not done:
        return []
    trained, share = sum(done), sum(done) / (len(done) * whole)
    hours = sum(results.spent[key].hours for key in sound)
    unit = "GPU" if any(results.spent[key].on_gpus for key in sound) else "CPU"
    found = [
        f"Halving by {eta}: search cells that are done trained {trained} of "
        f"{counted(len(done) * whole, 'epoch')} "
        f"({100 * share:.0f}%), which saved about {hours * (1 / share - 1):.3g} {unit}-hours."
    ]
    kept = [same for study in results.selections for same in _leaders(study)]
    if kept:
        found.append(
            f"The best trial at a rung was the best at the next one, too, in {sum(kept)} of {len(kept)}."
        )
    return found


def _leaders(study: Selection) -> Iterator[bool]:
    """Yield, for each rung that several trials passed, whether the best of them is the best at the next."""
    rungs = study.study.definition.rungs
    for lower, higher in pairwise(rungs):
        known = {i: values for i, values in study.rungs.items() if i not in study.diverged}
        both = [i for i, values in known.items() if lower in values and higher in values]
        if len(both) > 1:
            yield _leader(study.rungs, both, lower) == _leader(study.rungs, both, higher)


def _leader(values: Mapping[int, Mapping[int, float]], indices: list[int], rung: int) -> int:
    return min(indices, key=lambda index: (-values[index][rung], index))


def _tried_things(results: Results) -> str:
    tasks = any(selection.study.definition.spaces for selection in results.selections)
    return "lambda" if tasks else "value"


def _ordered(study: Selection) -> bool:
    """Return whether what was tried can be ordered by one number."""
    dimensions = study.study.definition.dimensions
    return len(dimensions) == 1 and not isinstance(dimensions[0][1], Choices)


def _stands_out(study: Selection) -> bool:
    """Return whether the choice's value is above its neighbours' by more than noise explains."""
    by_size = sorted(study.history, key=lambda t: (*t.what.aux_weights.values(), *t.what.fields.values()))
    place = next(place for place, tried in enumerate(by_size) if tried.what == study.chosen)
    chosen = by_size[place]
    near = [by_size[other] for other in (place - 1, place + 1) if 0 <= other < len(by_size)]
    freedom = 2 * (study.study.definition.search_seeds - 1)
    return all(
        chosen.value - each.value > _bound(freedom) * math.hypot(chosen.error or 0.0, each.error or 0.0)
        for each in near
    )


@functools.cache
def _bound(freedom: int) -> float:
    """Return Student's t that 2.5% exceed."""
    from scipy.stats import t  # 0.5 s: not before seeds tell the noise

    return float(t.ppf(0.975, freedom))


def _all(count: int) -> str:
    return "the one study" if count == 1 else f"all {count} studies"

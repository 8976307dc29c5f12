"""Synchronous successive halving (Jamieson & Talwalkar 2016): which trials of a study train on.

All trials of a study, its bracket, train to the first rung, an epoch; the best 1/eta by validation accuracy
go on to the next rung, and so on; the last rung is the end of training. A rung is decided once every trial
that reached it has its value, so that decisions follow from values alone, never from their timing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from trainables.mistake import Mistake, counted


def rung_epochs(epochs: int, eta: int, trials: int) -> tuple[int, ...]:
    """Return the epochs of a bracket's rungs, epochs / eta^k rounded up, the last one `epochs`.

    There are as many as leave a trial at the last one. Raise Mistake if there are too few trials for a rung,
    or too few epochs to tell rungs apart.
    """
    if trials < eta:
        raise Mistake(
            f"--halving {eta} has no use with {counted(trials, 'trial')} in a study, of which none could be "
            f"left out: have {eta} or more, by --lambda-trials or longer lists, or leave --halving out."
        )
    found = [epochs]
    while eta ** len(found) <= trials:
        found.append(-(-epochs // eta ** len(found)))
    rungs = tuple(reversed(found))
    if any(lower == higher for lower, higher in pairwise(rungs)):
        listed = ", ".join(map(str, rungs))
        raise Mistake(
            f"--halving {eta} with {counted(trials, 'trial')} has rungs after epochs {listed}, which are not "
            f"all different: train for at least {eta ** (len(rungs) - 1)} epochs, or try fewer lambdas."
        )
    return rungs


def places(eta: int, trials: int) -> Iterator[int]:
    """Yield how many trials train to each rung: all of them to the first one, then 1/eta of those."""
    while trials:
        yield trials
        trials //= eta


def promoted(values: Mapping[int, float], eta: int) -> list[int]:
    """Return the trials that go on from a rung, by their values at it; of equal values, the lower index."""
    ranked = sorted(values, key=lambda index: (-values[index], index))
    return sorted(ranked[: max(1, len(values) // eta)])


def stopped(
    values: Mapping[int, Mapping[int, float]], rungs: Sequence[int], eta: int
) -> tuple[dict[int, int], int]:
    """Return which trials stop, and at which rung, by their values at rungs, as far as these decide it.

    That is up to the rung that is returned beside: the first at which a trial that goes on has no value, or
    the last one.
    """
    found: dict[int, int] = {}
    going = list(values)
    for rung in rungs[:-1]:
        if any(rung not in values[index] for index in going):
            return found, rung
        on = promoted({index: values[index][rung] for index in going}, eta)
        found |= {index: rung for index in going if index not in on}
        going = on
    return found, rungs[-1]


def share_of_training(epochs: int, eta: int, trials: int) -> float:
    """Return the epochs that a bracket trains as a share of those of trials that all run to the end."""
    rungs = (0, *rung_epochs(epochs, eta, trials))
    trained = sum(
        n * (higher - lower) for n, (lower, higher) in zip(places(eta, trials), pairwise(rungs), strict=False)
    )
    return trained / (trials * epochs)

"""Means and standard deviations over seeds, and paired comparisons over held-out classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from trainables.mistake import counted

RESAMPLES = 10_000
FEWEST = 5
"""Fewest classes over which an interval or a test is given: fewer show too little of the spread."""
LEVEL = 0.95
SIGNIFICANT = 1 - LEVEL
RAISES, LOWERS, NO_CHANGE, TOO_FEW = "raises", "lowers", "no measurable change", "too few"


@dataclass(frozen=True)
class Estimate:
    """Mean and sample standard deviation (ddof = 1) over n seeds; one seed has no deviation."""

    mean: float
    std: float | None
    n: int

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; None for one seed."""
        return None if self.std is None else self.std / math.sqrt(self.n)


@dataclass(frozen=True)
class Difference:
    """A difference of two means, with its standard error if both have a standard deviation."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class Comparison:
    """Paired differences over n classes: their mean, a bootstrap interval of it, and a signed-rank test."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    """95% percentile interval, classes drawn with replacement; None for fewer than FEWEST classes."""
    p: float | None
    """Two-sided p of Wilcoxon's signed-rank test; None for fewer than FEWEST classes."""

    @property
    def smallest_p(self) -> float:
        """The p that the test gives if all n differences have one sign."""
        return min(1.0, 2 * 0.5**self.n)

    @property
    def verdict(self) -> str:
        """RAISES or LOWERS if p is at most 5% and the interval excludes zero; else NO_CHANGE or TOO_FEW."""
        if self.smallest_p > SIGNIFICANT or self.p is None or self.interval is None:
            return TOO_FEW
        low, high = self.interval
        if self.p > SIGNIFICANT or low <= 0 <= high:
            return NO_CHANGE
        return RAISES if self.mean > 0 else LOWERS


def estimate(values: Iterable[float]) -> Estimate | None:
    """Return mean and standard deviation (ddof = 1) of the values; None if there are none."""
    found = list(values)
    if not found:
        return None
    mean = math.fsum(found) / len(found)
    if len(found) == 1:
        return Estimate(mean, None, 1)
    squares = math.fsum((value - mean) ** 2 for value in found)
    return Estimate(mean, math.sqrt(squares / (len(found) - 1)), len(found))


def average_over_classes(
    by_class: Mapping[str, Mapping[int, float]], classes: Collection[str]
) -> Estimate | None:
    """Return the estimate over seeds of each seed's average over the classes, from values by class and seed.

    A seed that lacks a class has no average and is left out, so that every average is over the same classes.
    None if no seed is complete or there are no classes.
    """
    if not classes or any(name not in by_class for name in classes):
        return None
    seeds = set.intersection(*(set(by_class[name]) for name in classes))
    return estimate(
        math.fsum(by_class[name][seed] for name in classes) / len(classes) for seed in sorted(seeds)
    )


def paired_differences(
    ours: Mapping[str, Mapping[int, float]], others: Mapping[str, Mapping[int, float]]
) -> dict[str, float]:
    """Return, by class, the mean of `ours` minus `others` over the seeds that both have.

    Both are values by class and seed.
    """
    found = {}
    for name in ours:
        common = sorted(set(ours[name]) & set(others.get(name, ())))
        if common:
            found[name] = math.fsum(ours[name][seed] - others[name][seed] for seed in common) / len(common)
    return found


def difference(ours: Estimate, others: Estimate) -> Difference:
    """Return `ours` minus `others`, two independent means."""
    errors = ours.standard_error, others.standard_error
    joint = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
    return Difference(ours.mean - others.mean, joint)


def compare(differences: Collection[float]) -> Comparison:
    """Summarise paired differences, one per class; raise ValueError if there are none."""
    if not differences:
        raise ValueError("a comparison needs at least one difference")
    # Sorted, so that the order of the classes does not change the bootstrap's draws.
    values = np.sort(np.fromiter(differences, dtype=np.float64))
    mean = math.fsum(values) / len(values)
    if len(values) < FEWEST:
        return Comparison(len(values), mean, None, None)
    return Comparison(len(values), mean, bootstrap_interval(values), signed_rank_p(values))


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean of values, (n,) with n >= 2; seeded."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values[drawn].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def signed_rank_p(values: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test of values (n,) against zero; zeros are dropped.

    It is exact for up to 50 values (13 if some tie) and uses the normal approximation beyond.
    """
    moved = values[values != 0]
    if not len(moved):
        return 1.0
    from scipy.stats import wilcoxon  # 0.7 s: only for reports that compare methods

    return float(wilcoxon(moved).pvalue)


def describe_comparison(method: str, metric: str, comparison: Comparison) -> str:
    """Return a comparison with classification as a sentence, with differences in percent points."""
    n, points = comparison.n, f"{100 * comparison.mean:+.2f} points"
    classes = counted(n, "held-out class", "held-out classes")
    if comparison.interval is None or comparison.p is None:
        return f"{method}, {metric}: {points} over {classes}, too few for an interval or a test."
    low, high = (f"{100 * bound:+.2f}" for bound in comparison.interval)
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    measured = f"[{low}, {high}] over {classes}, {p}"
    if comparison.verdict == TOO_FEW:
        return (
            f"{method}, {metric}: {points} {measured}; too few classes to tell, since the test's "
            f"smallest p is {comparison.smallest_p:.3f}."
        )
    if comparison.verdict == NO_CHANGE:
        return f"{method} does not measurably change {metric}: {points} {measured}."
    size = f"{abs(100 * comparison.mean):.2f} points"
    return f"{method} {comparison.verdict} {metric} by {size} {measured}."

"""How long the parts of a run take on a machine, and how many of each part a run has.

This module does not import torch, so that plans can be made and priced without it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from trainables.recipe import Recipe, total_batch_size, used_count, validation_count
from trainables.run import NO_HOLDOUT


@dataclass(frozen=True)
class Effort:
    """What a run, or a stretch of it, does: how many steps, epochs and evaluations, of how many images."""

    steps: int = 0
    """Training steps: of the classifier, each with one of every auxiliary task."""
    epochs: int = 0
    evaluations: int = 0
    """Scorings of the test images, or validations."""
    evaluated_images: int = 0
    """Of all evaluations together."""
    ends: bool = True
    """Whether its result is written."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a run took; of one thread, those in which it had a CPU."""

    begin: float
    """Opening the data, building the network, and what the first epoch takes more than others."""
    step: float
    epoch: float
    """Of an epoch beside its steps."""
    evaluated_image: float
    end: float
    """The result and its files, and what the last evaluation takes more than others."""
    steps: int = 0
    """How many steps were measured."""
    evaluated_images: int = 0
    """How many images were measured."""
    noise: float = 0.0
    """Standard error of what was measured, as a share of it."""
    share: float = 1.0
    """The share of the time in which the one thread had a CPU; other work had it for the rest."""

    def seconds(self, effort: Effort) -> float:
        """Return how long a run takes."""
        training = effort.steps * self.step + effort.epochs * self.epoch
        evaluating = effort.evaluated_images * self.evaluated_image
        return self.begin + training + evaluating + (self.end if effort.ends else 0.0)


def mean_pace(paces: Sequence[Pace]) -> Pace:
    """Return the mean of what processes beside each other measured; counts are sums."""
    values = {field.name: [getattr(pace, field.name) for pace in paces] for field in fields(Pace)}
    means = {name: statistics.fmean(found) for name, found in values.items()}
    means["noise"] /= math.sqrt(len(paces))
    counts = {name: sum(values[name]) for name in ("steps", "evaluated_images")}
    return Pace(**{**means, **counts})


@dataclass(frozen=True)
class Counts:
    """The images of a run: those it trains on, those that make an epoch, and those that are evaluated."""

    trained: int
    whole: int
    evaluated: int


def counts_of(
    recipe: Recipe, train: dict[str, int], test: dict[str, int], holdout: str, *, search: bool
) -> Counts:
    """Return the images of a run, from each class's numbers of training and test images."""
    kept = [count for name, count in train.items() if name != holdout or holdout == NO_HOLDOUT]
    used = sum(used_count(count, recipe) for count in kept)
    aside = sum(validation_count(count, recipe) for count in kept) if search else 0
    whole = sum(used_count(count, recipe) for count in train.values())
    epoch = whole if recipe.epoch_length == "whole" else used - aside
    return Counts(used - aside, epoch, aside if search else sum(test.values()))


def steps_per_epoch(recipe: Recipe, counts: Counts, workers: int) -> int:
    """Return the steps of an epoch of several workers together."""
    return max(1, counts.whole // total_batch_size(recipe, counts.trained, workers))

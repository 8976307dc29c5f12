"""Floating-point operations (FLOPs) of a run, counted without torch or data (networks/flops.py says how)."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.auxiliary import find_task
from trainables.networks.flops import forward_flops, training_flops
from trainables.recipe import Recipe
from trainables.run import parse_method
from trainables.training_free import TRAINING_FREE


@dataclass(frozen=True)
class Work:
    """Images that a run trains on per epoch, and images that each of its evaluations validates or scores.

    A method that trains nothing is fitted to the former and scores the latter.
    """

    training_images: int
    evaluated_images: int


def run_flops(recipe: Recipe, method: str, work: Work, channels: int, classes: int, *, search: bool) -> int:
    """Return the FLOPs of a run: epochs, with a step of each auxiliary task per step, and evaluations.

    A validation, in a search run, takes one forward pass per image. Scoring, in a final run, takes a forward
    pass, a gradient for the input and another forward pass.
    """
    if not parse_method(method).trains:
        found = TRAINING_FREE.find(method)()
        return found.flops(recipe.image_size, channels, work.training_images, work.evaluated_images)
    classification = training_flops(recipe, channels, classes)
    tasks = [find_task(name, recipe, channels) for name in parse_method(method).auxiliary]
    auxiliary = sum(task.flops(recipe) for task in tasks)
    training = recipe.epochs * work.training_images * (classification + auxiliary)
    forward, _ = forward_flops(recipe, channels, classes)
    if search:
        return int(training + recipe.validation_count * work.evaluated_images * forward)
    return int(training + recipe.evaluation_count * work.evaluated_images * 3 * forward)

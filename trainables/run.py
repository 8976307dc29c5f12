"""A training run as data: its method, its recipe, and what distinguishes it from other runs.

This module does not import torch, so that plans can be made and priced without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainables.auxiliary import TASKS, find_task
from trainables.mistake import Mistake, unknown
from trainables.recipe import Recipe
from trainables.training_free import TRAINING_FREE

NO_HOLDOUT = "none"
"""Holdout of a run that keeps every class (paper, table 2)."""

CLASSIFICATION = "classification"
"""The method, and the part of every other, that trains the classifier alone."""
MODIFIERS = ("center-mask",)
"""Parts of methods that change the training images and train no task."""


@dataclass(frozen=True)
class Method:
    """A method: the auxiliary tasks trained beside the classifier, and whether its images are masked.

    One that trains nothing has neither.
    """

    name: str
    auxiliary: tuple[str, ...]
    center_mask: bool
    trains: bool = True


def method_parts() -> tuple[str, ...]:
    """Return the parts of which methods are made, those that train nothing last."""
    return (CLASSIFICATION, *TASKS.names, *MODIFIERS, *TRAINING_FREE.names)


def parse_method(name: str) -> Method:
    """Return the method with a name: "classification", tasks and modifiers joined by "+", or a baseline.

    Its auxiliary tasks are in the order of the name's parts, and need not be known here: a report is about
    tasks of plug-ins too, and does not execute these.
    """
    if name in TRAINING_FREE.names:
        return Method(name, (), center_mask=False, trains=False)
    parts = name.split("+")
    auxiliary = tuple(part for part in parts if part not in (CLASSIFICATION, *MODIFIERS))
    return Method(name, auxiliary, "center-mask" in parts)


def check_method(name: str) -> None:
    """Raise Mistake for a method with a part that does not exist or occurs twice."""
    parts = name.split("+")
    for part in parts:
        if part not in method_parts():
            raise unknown("method", part, method_parts())
    alone = [part for part in parts if part in TRAINING_FREE.names]
    if alone and len(parts) > 1:
        raise Mistake(
            f"The method {name!r} adds to {alone[0]}, which trains nothing: name {alone[0]} by itself."
        )
    if len(set(parts)) < len(parts) or (CLASSIFICATION in parts and len(parts) > 1):
        raise Mistake(
            f"The method {name!r} names a part twice or adds to classification, which is in every method."
        )


def check_fits(method: str, recipe: Recipe) -> None:
    """Raise Mistake if a method cannot run with a recipe."""
    if not parse_method(method).trains:
        TRAINING_FREE.find(method)().check_fits(recipe)
    for task in parse_method(method).auxiliary:
        find_task(task, recipe).check_fits(recipe)


@dataclass(frozen=True)
class Run:
    """Everything that determines a training run: equal runs on equal data give equal results.

    A search run trains on 80% of the kept classes' training images and is validated on the rest. A final
    run trains on all of them and is scored on the test images.
    """

    benchmark: str
    holdout: str
    method: str
    seed: int
    recipe: Recipe
    aux_weights: dict[str, float]
    search: bool
    sweep_seed: int = 0
    workers: int = 1
    threads: int = 1
    device: str = "cpu"

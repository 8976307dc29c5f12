"""A training run as data: its method, its recipe, and what distinguishes it from other runs.

This module does not import torch, so that plans can be made and priced without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainables.mistake import Mistake, unknown
from trainables.recipe import Recipe

NO_HOLDOUT = "none"
"""Holdout of a run that keeps every class (paper, table 2)."""

AUXILIARY_TASKS = ("rotation", "cpc")
MODIFIERS = ("center-mask",)
CPC_SIDES = 56
"""CPC's patches have whole pixels if the image's side is a multiple of this; the paper's side is 224."""
METHODS = ("classification", *AUXILIARY_TASKS, *MODIFIERS)


@dataclass(frozen=True)
class Method:
    """A method: the auxiliary tasks trained beside the classifier, and whether its images are masked."""

    name: str
    auxiliary: tuple[str, ...]
    center_mask: bool


def parse_method(name: str) -> Method:
    """Return the method with a name: "classification", or parts joined by "+", such as "rotation+cpc".

    Raise Mistake for a part that does not exist or occurs twice.
    """
    parts = name.split("+")
    for part in parts:
        if part not in METHODS:
            raise unknown("method", part, METHODS)
    if len(set(parts)) < len(parts) or ("classification" in parts and len(parts) > 1):
        raise Mistake(
            f"The method {name!r} names a part twice or adds to classification, which is in every method."
        )
    auxiliary = tuple(part for part in AUXILIARY_TASKS if part in parts)
    return Method(name, auxiliary, "center-mask" in parts)


def canonical(name: str) -> str:
    """Return a method's name with its parts in the order of METHODS: rotation+cpc for cpc+rotation."""
    parts = name.split("+")
    return "+".join(part for part in METHODS if part in parts)


def check_fits(method: str, recipe: Recipe) -> None:
    """Raise Mistake if a method cannot run with a recipe."""
    if "cpc" in parse_method(method).auxiliary and recipe.image_size % CPC_SIDES:
        near = CPC_SIDES * max(1, round(recipe.image_size / CPC_SIDES))
        raise Mistake(
            f"image_size={recipe.image_size} does not fit cpc, which cuts images into a grid of patches: "
            f"choose a multiple of {CPC_SIDES}, such as {near}."
        )


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

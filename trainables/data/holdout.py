"""Holding out a class, relabelling the others, and the validation split that selects lambda.

The leak firewall is built here: a search run receives `SearchData`, from which neither the held-out class nor
a test image can be reached, because neither was opened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.data.readers.grouping import groups_aside
from trainables.mistake import Mistake, unknown
from trainables.randomness import stream, stream_seed
from trainables.recipe import Recipe, used_count, validation_count
from trainables.run import NO_HOLDOUT, Run

ANOMALY = -1
"""Label of a test image of the held-out class."""


@dataclass(frozen=True)
class Part:
    """Images for training or validation: rows of a table, int64 (n,), and their labels, int64 (n,)."""

    images: ImageTable
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class SearchData:
    """The data of a search run: two disjoint parts of the kept classes' training images."""

    classes: tuple[str, ...]
    training: Part
    validation: Part
    whole_count: int
    """Number of training images that are used of all classes, the held-out one included."""


@dataclass(frozen=True)
class FinalData:
    """The training data of a final run: the kept classes' training images."""

    classes: tuple[str, ...]
    training: Part
    whole_count: int
    """Number of training images that are used of all classes, the held-out one included."""


@dataclass(frozen=True)
class TestData:
    """The data of the scoring step: all test images and int64 labels (n,), ANOMALY for the held-out class."""

    images: ImageTable
    labels: Tensor

    def to(self, device: torch.device) -> TestData:
        """Return the same data with its images on a device."""
        return TestData(self.images.to(device), self.labels)


def kept_classes(classes: tuple[str, ...], holdout: str) -> tuple[str, ...]:
    """Return the classes to train on, in order; raise Mistake if the holdout is not a class."""
    if holdout == NO_HOLDOUT:
        return classes
    if holdout not in classes:
        raise unknown("class to hold out", holdout, (*classes, NO_HOLDOUT))
    return tuple(name for name in classes if name != holdout)


def check_counts(
    classes: tuple[str, ...], counts: tuple[int, ...], recipe: Recipe, *, searching: bool
) -> None:
    """Raise Mistake if a class has too few training images, or too few to split when searching."""
    for name, count in zip(classes, counts, strict=True):
        used = used_count(count, recipe)
        held = validation_count(count, recipe)
        if count < 1 or (searching and (held < 1 or used - held < 1)):
            raise Mistake(
                f"The class {name!r} has {count} training images, {used} of them used with "
                f"train_fraction={recipe.train_fraction:g}: too few to set "
                f"{recipe.validation_fraction:g} of them aside for choosing lambda. Add images, raise "
                "train_fraction, or give lambda with --aux-weight."
            )


def open_search(prepared: Prepared, run: Run) -> SearchData:
    """Open the kept classes' training images and split each class by a seeded permutation.

    The split depends on the sweep's seed and the class only, so that it is the same for all runs of a sweep;
    with groups it depends on all kept classes, of which a group may have images. Raise Mistake for groups
    that cannot be divided.
    """
    classes = kept_classes(prepared.classes, run.holdout)
    aside = None
    if prepared.train_groups is not None:
        aside = validation_by_group(prepared, run.holdout, run.recipe, run.sweep_seed)
    images = prepared.open("train", classes)
    training, validation = [], []
    for place, name in enumerate(classes):
        rows = _used_rows(images, name, run)
        if aside is not None:
            validation.append(rows[aside[place]])
            training.append(rows[~aside[place]])
            continue
        held = validation_count(len(images.rows_of(name)), run.recipe)
        shuffled = rows[torch.randperm(len(rows), generator=stream(run.sweep_seed, 0, 0, f"split/{name}"))]
        validation.append(shuffled[:held].sort().values)
        training.append(shuffled[held:].sort().values)
    whole = _whole_count(prepared, run.recipe)
    return SearchData(classes, _part(images, training), _part(images, validation), whole)


def validation_by_group(prepared: Prepared, holdout: str, recipe: Recipe, sweep_seed: int) -> list[Tensor]:
    """Return, for each kept class, which of the images that are used are for validation: bool (n,).

    Whole groups are, in all about as many images of each class as without groups. Raise Mistake if a class
    would lack images on a side. No image is opened, and nothing of the held-out class is looked at.
    """
    assert prepared.train_groups is not None
    classes, groups, labels, wanted = kept_classes(prepared.classes, holdout), [], [], []
    for label, name in enumerate(classes):
        of_class = prepared.train_groups[prepared.classes.index(name)]
        used = _used_places(len(of_class), name, recipe, sweep_seed).tolist()
        groups += [of_class[place] for place in used]
        labels += [label] * len(used)
        wanted.append(max(1, validation_count(len(of_class), recipe)))
    seed = stream_seed(sweep_seed, 0, 0, "split/groups")
    chosen = groups_aside(np.array(labels), groups, wanted, np.random.default_rng(seed))
    aside = [torch.from_numpy(chosen[np.array(labels) == label]) for label in range(len(classes))]
    for name, found in zip(classes, aside, strict=True):
        if not found.any() or found.all():
            raise Mistake(
                f"The groups of the class {name!r} cannot be divided into training and validation images: "
                "each class needs some that leave images of every class on both sides. Add images, or give "
                "lambda with --aux-weight."
            )
    return aside


def open_final(prepared: Prepared, run: Run) -> FinalData:
    """Open the kept classes' training images."""
    classes = kept_classes(prepared.classes, run.holdout)
    images = prepared.open("train", classes)
    rows = [_used_rows(images, name, run) for name in classes]
    return FinalData(classes, _part(images, rows), _whole_count(prepared, run.recipe))


def open_test(prepared: Prepared, run: Run) -> TestData:
    """Open every test image, for the scoring step of a final run only."""
    classes = kept_classes(prepared.classes, run.holdout)
    images = prepared.open("test")
    labels = [
        torch.full((count,), classes.index(name) if name in classes else ANOMALY)
        for name, count in zip(images.classes, images.counts, strict=True)
    ]
    return TestData(images, torch.cat(labels))


def _used_rows(images: ImageTable, name: str, run: Run) -> Tensor:
    """Return the rows of a class that train_fraction keeps, which are the same for all runs of a sweep."""
    rows = images.rows_of(name)
    return rows.start + _used_places(len(rows), name, run.recipe, run.sweep_seed)


def _used_places(count: int, name: str, recipe: Recipe, sweep_seed: int) -> Tensor:
    """Return which of a class's `count` training images are used, by their places in it."""
    used = used_count(count, recipe)
    if used == count:
        return torch.arange(count)
    order = torch.randperm(count, generator=stream(sweep_seed, 0, 0, f"train_fraction/{name}"))
    return order[:used].sort().values


def _part(images: ImageTable, rows_by_class: list[Tensor]) -> Part:
    labels = [torch.full((len(rows),), label) for label, rows in enumerate(rows_by_class)]
    return Part(images, torch.cat(rows_by_class), torch.cat(labels))


def _whole_count(prepared: Prepared, recipe: Recipe) -> int:
    return sum(used_count(count, recipe) for count in prepared.counts["train"])

"""Holding out a class, relabelling the others, and the validation split that selects lambda.

The leak firewall is built here: a search run receives `SearchData`, from which neither the held-out class nor
a test image can be reached, because neither was opened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.mistake import Mistake, unknown
from trainables.randomness import stream
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

    The split depends on the sweep's seed and the class only, so that it is the same for all runs of a sweep.
    """
    classes = kept_classes(prepared.classes, run.holdout)
    images = prepared.open("train", classes)
    training, validation = [], []
    for name in classes:
        rows = _used_rows(images, name, run)
        held = validation_count(len(images.rows_of(name)), run.recipe)
        shuffled = rows[torch.randperm(len(rows), generator=stream(run.sweep_seed, 0, 0, f"split/{name}"))]
        validation.append(shuffled[:held].sort().values)
        training.append(shuffled[held:].sort().values)
    whole = _whole_count(prepared, run.recipe)
    return SearchData(classes, _part(images, training), _part(images, validation), whole)


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
    rows = torch.arange(images.rows_of(name).start, images.rows_of(name).stop)
    used = used_count(len(rows), run.recipe)
    if used == len(rows):
        return rows
    order = torch.randperm(len(rows), generator=stream(run.sweep_seed, 0, 0, f"train_fraction/{name}"))
    return rows[order[:used]].sort().values


def _part(images: ImageTable, rows_by_class: list[Tensor]) -> Part:
    labels = [torch.full((len(rows),), label) for label, rows in enumerate(rows_by_class)]
    return Part(images, torch.cat(rows_by_class), torch.cat(labels))


def _whole_count(prepared: Prepared, recipe: Recipe) -> int:
    return sum(used_count(count, recipe) for count in prepared.counts["train"])

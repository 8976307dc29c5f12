"""The cost of cells in floating-point operations, from the specification and the numbers of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.planning.cells import SEARCH, Cell, define
from orchestrator.planning.halving import share_of_training
from orchestrator.planning.specification import Specification
from search_spaces.benchmark import Benchmark
from trainables.flops import Work, run_flops
from trainables.recipe import used_count, validation_count
from trainables.run import NO_HOLDOUT, parse_method


@dataclass(frozen=True)
class Images:
    """How many training and test images each class has."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    channels: int

    @staticmethod
    def of_benchmark(benchmark: Benchmark) -> Images | None:
        """Return the numbers that the benchmark's file states, or None if its data decides them."""
        classes, train = benchmark.classes, benchmark.train_counts
        if classes and benchmark.train_total and not train:
            share, more = divmod(benchmark.train_total, len(classes))
            train = tuple(share + (place < more) for place in range(len(classes)))
        if not (classes and train and benchmark.test_counts):
            return None
        return Images(classes, train, benchmark.test_counts, benchmark.channels)

    @staticmethod
    def of_counts(classes: tuple[str, ...], counts: Mapping[str, tuple[int, ...]], channels: int) -> Images:
        """Return the numbers of prepared data."""
        return Images(classes, counts["train"], counts["test"], channels)


def flops_by_key(cells: Iterable[Cell], specification: Specification, images: Images) -> dict[str, int]:
    """Return the floating-point operations of each cell by key; seeds and lambdas make no difference."""
    kinds: dict[tuple[str, str, str], int] = {}
    found = {}
    for cell in cells:
        kind = (cell.phase, cell.holdout, cell.method)
        if kind not in kinds:
            kinds[kind] = cell_flops(cell, specification, images)
        found[cell.key] = kinds[kind]
    return found


def cell_flops(cell: Cell, specification: Specification, images: Images) -> int:
    """Return the floating-point operations of a cell, evaluations included.

    Of a search whose trials are halved it is the mean of a study's cells.
    """
    whole_run = whole_flops(cell, specification, images)
    if not (cell.phase == SEARCH and specification.halving):
        return whole_run
    trials = define(specification, cell.method, (cell.holdout,)).trials
    share = share_of_training(specification.recipe.epochs, specification.halving, trials)
    return round(whole_run * share)


def whole_flops(cell: Cell, specification: Specification, images: Images) -> int:
    """Return the floating-point operations of a cell that trains to the end, evaluations included."""
    recipe = specification.recipe
    kept = [count for name, count in zip(images.classes, images.train, strict=True) if name != cell.holdout]
    search = cell.phase == SEARCH
    validated = sum(validation_count(count, recipe) for count in kept) if search else 0
    used = sum(used_count(count, recipe) for count in kept)
    whole = recipe.epoch_length == "whole" and parse_method(cell.method).trains
    trained = sum(images.train) if whole else used - validated
    work = Work(trained, validated if search else sum(images.test))
    classes = len(kept) if cell.holdout != NO_HOLDOUT else len(images.classes)
    return run_flops(recipe, cell.method, work, images.channels, classes, search=search)

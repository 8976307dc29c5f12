"""The sweep's data: opening it, and checking that it holds what the sweep needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import torch
from rich.console import Console
from rich.progress import Progress

from orchestrator.planning.specification import Specification
from trainables.auxiliary import find_task
from trainables.data.cache import prepare
from trainables.data.holdout import check_counts, kept_classes, validation_by_group
from trainables.data.image_sets import load_set
from trainables.data.named_images import NamedImages
from trainables.data.prepared import Prepared, Repeated
from trainables.data.readers.finding import find_reader
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake, counted, escaped
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe, total_batch_size, used_count, validation_count
from trainables.run import NO_HOLDOUT, parse_method

FEWEST_KEPT = 2


def open_data(request: DataRequest) -> Prepared:
    """Open the prepared data; prepare it first, with a progress bar, if it is not there or was altered.

    Every image is compared with its digest, once for a whole sweep: a few seconds for each GB.
    """
    console = Console(stderr=True)
    if request.cache_is_elsewhere:
        console.print(
            f"The user's cache folder cannot be written: prepared data goes to {request.cache_folder}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Preparing {request.name}", total=None)
        prepared = prepare(
            request, progress=lambda done, total: bar.update(task, completed=done, total=total), verify=True
        )
    for name in prepared.skipped:
        console.print(f"Left out an image that cannot be read: {name}", markup=False)
    if prepared.groups_in_both:
        some = ", ".join(prepared.groups_in_both[:3])
        console.print(
            escaped(
                f"Warning: {counted(len(prepared.groups_in_both), 'group')} with training images and test "
                f"images, as the data has its splits, such as {some}: a network is tested on groups that it "
                "was trained on."
            ),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if prepared.repeated.count:
        console.print(_about_repeated(prepared.repeated), markup=False, highlight=False, soft_wrap=True)
    return prepared


def _about_repeated(repeated: Repeated) -> str:
    """Return a warning of test images that a network is trained on."""
    named = "; ".join(f"{test} is {train}" for test, train in repeated.pairs)
    more = "" if repeated.count == len(repeated.pairs) else ", and so on"
    images = counted(repeated.count, "test image")
    return escaped(
        f"Warning: {images} equal a training image in every pixel, so that networks are tested on what they "
        f"were trained on: {named}{more}; take them out of one of the splits."
    )


def check_image_sets(wanted: Iterable[NamedImages], prepared: Prepared) -> tuple[NamedImages, ...]:
    """Return the image sets with their digests; raise Mistake for one that cannot be used with this data."""
    found = []
    for each in wanted:
        digest = load_set(each, prepared.side, prepared.channels).digest
        found.append(dataclasses.replace(each, digest=digest))
    return tuple(found)


def check_named(request: DataRequest) -> None:
    """Raise Mistake if data was named for a benchmark that would not read it."""
    embedded = find_reader(request).embedded
    if embedded:
        raise Mistake(
            f"{embedded}, and {request.path} is no Parquet file of them: leave --data "
            "out, or name the benchmark that your data is for."
        )


def check_class_names(prepared: Prepared) -> None:
    """Raise Mistake if a class has the name that stands for no class."""
    if NO_HOLDOUT in prepared.classes:
        raise Mistake(
            f"The data has a class {NO_HOLDOUT!r}, and holding out {NO_HOLDOUT!r} means that every class is "
            "kept: rename the class, which in a data set of folders is a folder's name."
        )


def check_data(specification: Specification, prepared: Prepared) -> None:
    """Raise Mistake if the data has too little for the held-out classes, the split or the workers."""
    check_class_names(prepared)
    for holdout in specification.holdouts:
        kept = kept_classes(prepared.classes, holdout)
        if len(kept) < FEWEST_KEPT and specification.trained:
            raise Mistake(
                f"With {holdout!r} held out only {len(kept)} class is left, and a classifier needs at least "
                f"{FEWEST_KEPT}: add a class to the data."
            )
    searching = any(specification.searches(method) for method in specification.methods)
    for split in ("train", "test"):
        for name, count in zip(prepared.classes, prepared.counts[split], strict=True):
            if count == 0:
                raise Mistake(f"The class {name!r} has no {split} images: every class needs some of both.")
    check_counts(prepared.classes, prepared.counts["train"], specification.recipe, searching=searching)
    if searching and prepared.train_groups is not None:
        for holdout in specification.holdouts:
            validation_by_group(prepared, holdout, specification.recipe, specification.sweep_seed)
    if specification.workers > 1 and specification.trained:
        _check_workers(specification, prepared)


def _check_workers(specification: Specification, prepared: Prepared) -> None:
    """Raise Mistake if a worker would have nothing to do in some step, or in scoring."""
    _check_share(sum(prepared.counts["test"]), specification.workers, "test images")
    for search in (False, True):
        methods = [m for m in specification.methods if not search or specification.searches(m)]
        if not methods:
            continue
        tasks = sorted({task for method in methods for task in parse_method(method).auxiliary})
        counts = [_trained_on(n, specification.recipe, search=search) for n in prepared.counts["train"]]
        by_class = dict(zip(prepared.classes, counts, strict=True))
        for holdout in specification.holdouts:
            where = f"in a {'search' if search else 'final'} cell with {holdout!r} held out"
            images = sum(counts) - by_class.get(holdout, 0)
            _check_share(images, specification.workers, f"training images {where}")
            for task in tasks:
                examples = _examples_per_step(task, specification, prepared.channels, images)
                _check_share(examples, specification.workers, f"examples of {task} per step {where}")


def _check_share(count: int, workers: int, what: str) -> None:
    if count < workers:
        raise Mistake(
            f"{workers} workers cannot share {count} {what}: add images to the data, or choose fewer "
            "--workers."
        )


def _trained_on(count: int, recipe: Recipe, *, search: bool) -> int:
    """Return how many of a class's training images a cell trains on."""
    return used_count(count, recipe) - (validation_count(count, recipe) if search else 0)


def _examples_per_step(task: str, specification: Specification, channels: int, images: int) -> int:
    """Return how many examples a task's step has for all workers together, from the number of images."""
    recipe, workers = specification.recipe, specification.workers
    return _drawn(task, recipe, channels, total_batch_size(recipe, images, workers))


@functools.cache
def _drawn(name: str, recipe: Recipe, channels: int, batch_size: int) -> int:
    """Return how many examples a task draws beside a classification batch."""
    task = find_task(name, recipe, channels)
    with torch.device("meta"):  # nothing is computed, so a large network costs nothing
        network = WideResNet(recipe, channels, FEWEST_KEPT, (name,) if task.own_norm else ())
        built = task.build(network, recipe)
    rows = torch.arange(task.images_per_step(batch_size))
    return len(built.draw(rows, torch.Generator()).rows)

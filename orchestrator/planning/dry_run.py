"""The output of --dry-run: the cells by phase and method and their cost, before anything runs."""

from __future__ import annotations

import os
from collections import Counter

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.storage import absolute_path
from orchestrator.planning.cells import FINAL, SEARCH, define, lay_out
from orchestrator.planning.costs import Images, cell_flops
from orchestrator.planning.halving import places
from orchestrator.planning.plugins import load_with_stored
from orchestrator.planning.request import DEFAULT_DATA, Draft, Request, check_detectors, read_plugins
from orchestrator.planning.specification import (
    BEST,
    PAPER,
    RunSettings,
    Specification,
    data_request,
    read_stored,
)
from search_spaces import find_benchmark
from trainables.auxiliary import find_task
from trainables.data.file_errors import explained
from trainables.data.readers.finding import find_reader
from trainables.data.readers.source import SPLITS, check_source
from trainables.mistake import counted
from trainables.networks.flops import training_flops
from trainables.networks.size import weight_bytes

HOLDOUTS_UNKNOWN = "So do the held-out classes: name some with --holdouts to see their cells."
UNITS = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
SOME_CLASSES = 10
"""What a network's size is given for where the data decides how many classes there are."""


def describe_plan(
    specification: Specification,
    name: str | None,
    images: Images | None,
    settings: RunSettings | None = None,
    *,
    probed: bool = False,
) -> str:
    """Return the plan as text, with its cost if the numbers of images are known.

    A name that was not given (None) is not known yet, since the data's content and the device are part of it.
    """
    cells = lay_out(specification, fingerprint="").all()
    counts: Counter[tuple[str, str]] = Counter()
    flops: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        kind = (cell.phase, cell.method)
        counts[kind] += 1
        flops[kind] += cell_flops(cell, specification, images) if images else 0
    named = f"sweep {name}" if name else f"a sweep of {specification.benchmark}"
    how = "nothing runs but the probe" if probed else "nothing runs, no image is opened"
    lines = [f"Plan of {named} (a dry run: {how})", *_facts(specification)]
    if images and find_benchmark(specification.benchmark).classes is None:
        lines.append(_about_images(images))
    lines.append("")
    width = max([len("method"), *(len(method) for _, method in counts)])
    lines.append(f"{'phase':<8}{'method':<{width + 2}}{'cells':>7}{'FLOPs':>14}")
    for kind in sorted(counts, key=lambda kind: (kind[0] != SEARCH, kind[1])):
        cost = readable(flops[kind]) if images else "-"
        lines.append(f"{kind[0]:<8}{kind[1]:<{width + 2}}{counts[kind]:>7}{cost:>14}")
    total = readable(sum(flops.values())) if images else "-"
    lines.append(f"{'all':<8}{'':<{width + 2}}{len(cells):>7}{total:>14}")
    finals = sum(counts[FINAL, method] for method in specification.trained)
    if images is None:
        if finals and (settings or RunSettings()).keep_weights:
            lines += ["", _about_weights(specification, finals)]
        lines += ["", *_unknown(specification)]
    return "\n".join(lines)


def _weight_bytes(specification: Specification) -> int:
    """Return the bytes of a final cell's weights."""
    benchmark = find_benchmark(specification.benchmark)
    classes = len(benchmark.classes or ()) or SOME_CLASSES
    return weight_bytes(specification.recipe, benchmark.channels, classes)


def _about_weights(specification: Specification, finals: int) -> str:
    each = _weight_bytes(specification)
    return (
        f"Storage: the weights of {counted(finals, 'final cell')} take {readable(finals * each, 'B')}, "
        f"{readable(each, 'B')} each; --set keep_weights=false keeps none."
    )


def _about_images(images: Images) -> str:
    """Return how many training and test images there are of each class, of many classes of the first."""
    each = [
        f"{name} {train}+{test}"
        for name, train, test in zip(images.classes, images.train, images.test, strict=True)
    ]
    more = f", and {counted(len(each) - SOME_CLASSES, 'more class', 'more classes')}"
    named = ", ".join(each[:SOME_CLASSES]) + (more if len(each) > SOME_CLASSES else "")
    total = f"{sum(images.train)} for training and {sum(images.test)} for the test"
    return f"images: {total}; by class: {named}"


def look_ahead(request: Request, draft: Draft | None) -> tuple[Specification, Images | None, RunSettings]:
    """Return what a sweep will be, and how many images it has, as far as that shows without opening any.

    Without a draft the ledger says what the sweep is. Numbers of images are those that the benchmark's file
    states; where the data decides them and was named with --data, they are counted by name or label.
    """
    if draft is None:
        assert request.name is not None
        ledger = Ledger(request.storage, request.name)
        load_with_stored(read_plugins(request), ledger)
        check_detectors(request.detectors)
        stored = read_stored(ledger)
        return stored.specification, _images(request, stored.specification), stored.settings
    device = "cuda" if request.gpus_per_worker else "cpu"
    classes = find_benchmark(request.benchmark).classes
    images = _images(request, draft.complete(device, classes))
    if images is not None:
        draft.check_batch(dict(zip(images.classes, images.train, strict=True)))
    return draft.complete(device, images.classes if images else classes), images, draft.settings


def _images(request: Request, specification: Specification) -> Images | None:
    benchmark = find_benchmark(specification.benchmark)
    known = Images.of_benchmark(benchmark)
    path = request.data or (absolute_path(DEFAULT_DATA) if os.path.isdir(DEFAULT_DATA) else None)
    if known is not None or benchmark.classes is not None or path is None:
        return known
    data = data_request(specification, path, cache=request.cache, download=False)
    with explained(data.cache_folder):
        source = find_reader(data).read(data)
    check_source(source, data)
    counts = {split: source.counts(split) for split in SPLITS}
    return Images.of_counts(source.class_names, counts, benchmark.channels)


def describe_network(specification: Specification) -> str:
    """Return network, image size, epochs and batch in words; the image size alone if nothing is trained."""
    recipe = specification.recipe
    if not specification.trained:
        return f"images of {recipe.image_size}x{recipe.image_size}"
    groups = f" ({recipe.groups} groups)" if recipe.groups != 3 else ""
    workers = f" x {specification.workers} workers" if specification.workers > 1 else ""
    batch = "searched" if "batch_size" in specification.search else recipe.batch_size
    return (
        f"{recipe.network_name}{groups} at {recipe.image_size}x{recipe.image_size}, "
        f"{counted(recipe.epochs, 'epoch')}, batch {batch}{workers}"
    )


def readable(amount: float, unit: str = "FLOPs") -> str:
    """Return an amount with a prefix to its unit, such as 3.21 TFLOPs."""
    for prefix, size in UNITS:
        if amount >= size:
            return f"{amount / size:.2f} {prefix}{unit}"
    return f"{amount:.0f} {unit}"


def _facts(specification: Specification) -> list[str]:
    held = ", ".join(specification.holdouts) or "every class of the data"
    searching = [method for method in specification.methods if specification.searches(method)]
    kinds = dict.fromkeys(map(specification.lambda_of, searching)) or [specification.select]
    words = {"holdout": "per held-out class", "benchmark": "for the benchmark"}
    shared = " or ".join(words[kind] for kind in kinds)
    if not specification.trained:
        return [f"held out: {held}; nothing is trained", describe_network(specification)]
    facts = [
        f"held out: {held}; seeds: {specification.seeds}; one lambda {shared}",
        f"network: {describe_network(specification)}",
    ]
    for task, space in sorted(specification.spaces.items()):
        if specification.aux_weights is None:
            facts.append(f"lambda of {task}: searched in {space}")
    for task, weight in sorted((specification.aux_weights or {}).items()):
        facts.append(f"lambda of {task}: {weight:g}, given")
    facts += [f"{name}: searched in {space}" for name, space in specification.search.items()]
    facts += _about_studies(specification)
    total = find_benchmark(specification.benchmark).total_batch
    ours = specification.recipe.batch_size * specification.workers
    if total and ours != total:
        facts.append(f"warning: workers x batch size is {ours}, the paper's total {total}")
    return facts


def _about_studies(specification: Specification) -> list[str]:
    """Return what each method's studies try, and how they choose."""
    found = {}
    for method in specification.methods:
        if specification.searches(method):
            study = define(specification, method, specification.holdouts)
            text = counted(study.trials, "trial")
            if study.search_seeds > 1:
                text += f" of {study.search_seeds} seeds"
            if study.halving:
                trained = zip(places(study.halving, study.trials), study.rungs, strict=False)
                text += " (" + ", ".join(f"{n} to epoch {rung}" for n, rung in trained) + ")"
            found[method] = text
    if len(set(found.values())) == 1:
        found = {"each": next(iter(found.values()))}
    texts = [f"{text} for {method}" if method != "each" else f"{text} each" for method, text in found.items()]
    how = "" if specification.choose == BEST else f"; chosen by {specification.choose}"
    how += "; as in the paper, where that is known" if specification.protocol == PAPER else ""
    return [f"studies: {', '.join(texts)}{how}"] if texts else []


def _unknown(specification: Specification) -> list[str]:
    benchmark = find_benchmark(specification.benchmark)
    recipe, channels = specification.recipe, benchmark.channels
    if not specification.trained:
        lines = ["The cost depends on the number of images, which the data decides."]
        return lines if specification.holdouts else [*lines, HOLDOUTS_UNKNOWN]
    cost = readable(training_flops(recipe, channels, SOME_CLASSES))
    lines = [f"The cost depends on the number of images, which the data decides: {cost} per image and epoch"]
    tasks = [find_task(name, recipe, channels) for name in benchmark.tasks(specification.methods)]
    more = ", ".join(f"{task.name}: {readable(task.flops(recipe))}" for task in tasks)
    lines[0] += " for classification" + (f"; auxiliary tasks come on top ({more})." if tasks else ".")
    if not specification.holdouts:
        lines.append(HOLDOUTS_UNKNOWN)
    return lines

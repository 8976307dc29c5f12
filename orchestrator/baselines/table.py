"""A baseline's table: a row per held-out class or image set, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.baselines.targets import HOLDOUT, UNCHANGED, Baseline, Target
from orchestrator.cli.baseline_options import PIXEL_GAUSSIAN
from orchestrator.reporting.paper import published
from orchestrator.reporting.tables import BLANK, NUMBER, SHARE, TEXT, Column, Entry, Table

APPENDIX, AVERAGE = "C", "average"
SCORES = {
    PIXEL_GAUSSIAN: "minus the log-likelihood, summed over one full-covariance Gaussian per colour channel",
    "edge-energy": "minus the sum of squared Sobel gradients of the grey image",
}

Results = Mapping[str, Mapping[str, Any]]
"""result.json by key."""


def baseline_table(baseline: Baseline, results: Results, label: str) -> Table:
    """Return every target's random AP and AP, beside the paper's AP if it has any for this detector.

    In the hold-out-class setting an average row follows; the paper's average is over all classes. Image sets
    of the paper that were not scored follow with the paper's AP only.
    """
    paper = _paper(baseline)
    if baseline.setting == HOLDOUT:
        return _by_holdout(baseline, results, paper.get(AVERAGE), label)
    return _by_set(baseline, results, paper, label)


def _paper(baseline: Baseline) -> dict[str, float]:
    """Return the paper's AP of this detector on this benchmark by image set, and its average over classes."""
    return {
        number.holdout: number.estimate.mean
        for number in published()
        if (number.table, number.benchmark, number.method) == (APPENDIX, baseline.benchmark, baseline.method)
    }


def _by_holdout(baseline: Baseline, results: Results, paper: float | None, label: str) -> Table:
    found = [_values(target, results) for target in baseline.targets]
    rows: list[tuple[Entry, ...]] = [
        (target.name, *values, BLANK) for target, values in zip(baseline.targets, found, strict=True)
    ]
    if len(found) > 1:
        means = [sum(column) / len(found) for column in zip(*found, strict=True)]
        whole = {target.name for target in baseline.targets} == set(baseline.classes)
        rows.append((AVERAGE, *means, BLANK if paper is None or not whole else paper))
    columns = (Column("held-out class", TEXT, "holdout"), *_numbers())
    caption = (
        f"{_head(baseline, 'the training images of the kept classes')} the test images, those of the "
        f"held-out class being the positives. {_RANDOM}"
    )
    rules = frozenset({len(found)}) if len(found) > 1 else frozenset()
    return _trimmed(Table(columns, tuple(rows), caption, label, rules), paper is not None)


def _by_set(baseline: Baseline, results: Results, paper: Mapping[str, float], label: str) -> Table:
    rows: list[tuple[Entry, ...]] = []
    for target in baseline.targets:
        number = paper.get(target.name, BLANK)
        rows.append((target.name, str(target.positives), _resize(target), *_values(target, results), number))
    absent = [name for name in paper if name not in (AVERAGE, *(target.name for target in baseline.targets))]
    rows += [(name, BLANK, BLANK, BLANK, BLANK, paper[name]) for name in absent]
    columns = (
        Column("image set", TEXT, "ood"),
        Column("images", NUMBER, "images"),
        Column("resize", TEXT, "resize"),
        *_numbers(),
    )
    caption = (
        f"{_head(baseline, 'all training images')} all test images together with an image set, whose images "
        f"are the positives. {_RANDOM} The resize says how a set's images were brought to "
        f"{baseline.image_size}x{baseline.image_size}."
    )
    if paper:
        caption += " The paper's sets are those of the ODIN repository."
    rules = frozenset({len(baseline.targets)}) if absent else frozenset()
    return _trimmed(Table(columns, tuple(rows), caption, label, rules), bool(paper))


_RANDOM = "Random AP is the share of positives, which a random detector's AP tends to. In percent."


def _numbers() -> tuple[Column, ...]:
    return (
        Column("random AP", SHARE, "random_ap"),
        Column("AP", SHARE, "ap"),
        Column("paper's AP", SHARE, "paper_ap"),
    )


def _values(target: Target, results: Results) -> tuple[float, float]:
    """Return a target's random AP and AP."""
    values = results[target.key]["values"]
    return values["final/skew"], values["final/ap"]


def _head(baseline: Baseline, fitted_to: str) -> str:
    size = f"{baseline.image_size}x{baseline.image_size}"
    fitted = f"fitted to {fitted_to} and " if baseline.method == PIXEL_GAUSSIAN else ""
    score = SCORES[baseline.method]
    return f"{baseline.method} on {baseline.benchmark} at {size}: {score}, {fitted}scored on"


def _resize(target: Target) -> str:
    if target.resize == UNCHANGED:
        return "as they are"
    if target.crops_per_image is None:
        return target.resize
    crops = "1 random crop" if target.crops_per_image == 1 else f"{target.crops_per_image} random crops"
    return f"{crops} each, seed {target.seed}"


def _trimmed(table: Table, with_paper: bool) -> Table:
    """Return the table, without the paper's column if the paper has no number for it."""
    if with_paper:
        return table
    rows = tuple(row[:-1] for row in table.rows)
    return Table(table.columns[:-1], rows, table.caption, table.label, table.rules)

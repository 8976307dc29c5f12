"""Figures of single images' scores: precision and recall, histograms, and accuracy against AP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.reporting.drawing import (
    CHANCE,
    GREY,
    PANELS,
    add_grid,
    add_legend,
    add_x_labels,
    new_figure,
    plain,
    style,
)
from orchestrator.reporting.results import ACCURACY, Results
from orchestrator.reporting.scored import Scored, Scores, label_of
from orchestrator.tracking.views import COLOURS, colour_of
from trainables.metrics import precision_and_recall

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 30


def precision_recall(results: Results, scores: Scores) -> Figure | None:
    """Draw precision against recall of every method in a panel per held-out class, a line for each seed."""
    shown = [name for name in results.held_out if any(name == holdout for _, holdout in scores)][:PANELS]
    if not shown:
        return None
    columns = min(4, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = new_figure(max(5.0, 0.6 + 2.4 * columns), 1.1 + 2.3 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, holdout in zip(grid.flat, shown, strict=False):
        _precision_panel(axes, results, scores, holdout)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    add_x_labels(grid, "recall (%)")
    for axes in grid[:, 0]:
        axes.set_ylabel("precision (%)")
    grid[0, 0].set_xlim(0, 100)
    grid[0, 0].set_ylim(0, 102)
    figure.suptitle(
        f"{results.specification.benchmark}: precision and recall, a line for each seed", fontsize=11
    )
    add_legend(figure)
    return figure


def _precision_panel(axes: Axes, results: Results, scores: Scores, holdout: str) -> None:
    for number, method in enumerate(results.specification.methods):
        for scored in scores.get((method, holdout), []):
            precision, recall = precision_and_recall(scored.scores, scored.is_anomaly)
            precision, recall = np.append(precision[:1], precision), np.append(0.0, recall)
            colour = colour_of(method, results.specification.methods)
            # Between two thresholds precision is that of the higher one, as average precision counts it.
            axes.step(
                100 * recall, 100 * precision, where="pre", color=colour, linewidth=1.1, alpha=0.8,
                linestyle=("-", "--", "-.", ":")[number % 4], label=label_of(results, method),
            )  # fmt: skip
    skew = results.skew(holdout)
    if skew is not None:
        axes.axhline(100 * skew, color=GREY, linestyle=":", linewidth=1.2, label=CHANCE)
    axes.set_title(f"held out: {plain(holdout)}", fontsize=10)
    add_grid(axes)


def histograms(results: Results, scores: Scores) -> Figure | None:
    """Draw how the scores of kept and held-out images are spread, a panel per held-out class and method."""
    methods = [m for m in results.specification.methods if any(m == method for method, _ in scores)]
    if not methods:
        return None
    most = max(1, PANELS // len(methods))
    shown = [name for name in results.held_out if any(name == holdout for _, holdout in scores)][:most]
    figure = new_figure(max(5.0, 0.6 + 3.0 * len(methods)), 1.2 + 1.35 * len(shown))
    grid = figure.subplots(len(shown), len(methods), squeeze=False, sharex="col")
    edges = {m: _edges([each for name in shown for each in scores.get((m, name), [])]) for m in methods}
    for row, holdout in zip(grid, shown, strict=True):
        for axes, method in zip(row, methods, strict=True):
            if (method, holdout) in scores:
                _histogram(axes, scores[method, holdout], edges[method])
            axes.set_yticks([])
        low, high = row[0].get_ylim()
        row[0].set_yticks([(low + high) / 2], [plain(holdout)], fontsize=10)
        row[0].tick_params(axis="y", length=0)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(label_of(results, method), fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("score (higher is more anomalous)", fontsize=9)
    figure.suptitle(
        f"{results.specification.benchmark}: scores of test images by held-out class, all seeds", fontsize=11
    )
    add_legend(figure)
    return figure


def _edges(seeds: Sequence[Scored]) -> list[float]:
    """Return edges of bins over all scores but the outermost hundredths, which may lie far away."""
    low, high = np.quantile(np.concatenate([each.scores for each in seeds]), [0.01, 0.99])
    return list(np.linspace(low, high if high > low else low + 1, BINS + 1))


def _histogram(axes: Axes, seeds: Sequence[Scored], edges: list[float]) -> None:
    """Draw both groups' shares; the first and the last bin have what lies beyond them, too."""
    kept, held_out = (
        np.clip(np.concatenate(found), edges[0], edges[-1])
        for found in zip(*((s.kept, s.held_out) for s in seeds), strict=True)
    )
    for number, (values, label) in enumerate([(kept, "kept classes"), (held_out, "held-out class")]):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(
            values, edges, weights=weights, histtype="stepfilled", alpha=0.45, label=label,
            color=COLOURS[number], edgecolor=COLOURS[number], hatch=("", "////")[number],
        )  # fmt: skip


def accuracy_against_ap(results: Results) -> Figure | None:
    """Draw a point per final cell: its AP by the first detector against its accuracy."""
    metric = next(iter(results.aps), None)
    if metric is None:
        return None
    figure = new_figure(6.0, 4.4)
    axes = figure.subplots()
    for method in results.specification.methods:
        cells = [final for name in results.held_out for final in results.finals_of(method, name)]
        pairs = [(final.value(ACCURACY), final.value(metric)) for final in cells]
        known = [(100 * x, 100 * y) for x, y in pairs if x is not None and y is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                linestyle="none",
                markersize=5,
                alpha=0.8,
                label=method,
                **style(method, results.specification.methods),
            )
    if not axes.lines:
        return None
    axes.set_xlabel("accuracy on the kept classes (%)")
    axes.set_ylabel(f"{results.aps[metric]} (%)")
    figure.suptitle(f"{results.specification.benchmark}: a point for each final cell", fontsize=11)
    add_grid(axes)
    add_legend(figure)
    return figure

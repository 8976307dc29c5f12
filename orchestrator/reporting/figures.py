"""A sweep's figures: AP by held-out class, learning curves, and how lambda was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.ledger.later_scores import curves_with_later
from orchestrator.ledger.ledger import THREADS
from orchestrator.planning.cells import Definition
from orchestrator.planning.hyperparameters import Hyperparameters, short
from orchestrator.planning.specification import DetectorColumn
from orchestrator.planning.studies import parameters
from orchestrator.reporting.drawing import (
    CHANCE,
    GREY,
    PANELS,
    add_grid,
    add_legend,
    add_x_labels,
    as_files,
    new_figure,
    plain,
    style,
)
from orchestrator.reporting.results import Final, Results, Selection
from orchestrator.reporting.score_figures import accuracy_against_ap, histograms, precision_recall
from orchestrator.reporting.scored import Scores
from orchestrator.tracking.views import COLOURS
from trainables.spaces import Choices, Grid, Integers, Space, Uniform, spelt

# matplotlib is imported inside the functions that need it: it takes 0.6 s, and not every report is drawn.
if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_HOLDOUTS = 3
"""Most held-out classes in the figure of learning curves, as in the paper's figure 1."""
AP_BY_CLASS, LEARNING_CURVES, CURVES_BY_CLASS = "ap-by-class", "learning-curves", "curves-by-class"
PRECISION_RECALL, HISTOGRAMS = "precision-recall", "score-histograms"
ACCURACY_AGAINST_AP = "accuracy-against-ap"

MOST_ACROSS = 4
"""Most panels in a line of a figure of AP."""
AP_LINES = ("-", "-.")
"""Line styles of detectors in the figure of learning curves, which shows as many of them."""
FEW_POINTS = 12
"""Most evaluations for which a curve shows its points."""

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Epochs, means over seeds, and standard deviations (0 for one seed), each (n,)."""


def draw_figures(results: Results, scores: Scores) -> dict[str, bytes]:
    """Return each figure as a PNG and a PDF file, by name; those that have nothing to show are left out."""
    figures = {
        AP_BY_CLASS: ap_by_class(results),
        LEARNING_CURVES: learning_curves(results),
        CURVES_BY_CLASS: curves_by_class(results),
        PRECISION_RECALL: precision_recall(results, scores),
        HISTOGRAMS: histograms(results, scores),
        ACCURACY_AGAINST_AP: accuracy_against_ap(results),
    }
    for method in results.specification.methods:
        studies = [s for s in results.selections if s.study.definition.method == method and s.points]
        stem = search_stem(results)
        figures[f"{stem}-{method}"] = search_choice(studies, stem) if studies else None
    found: dict[str, bytes] = {}
    for name, figure in figures.items():
        if figure is not None:
            found |= as_files(name, figure)
    return found


def search_stem(results: Results) -> str:
    """Return how the names of figures of a search begin."""
    return "search" if results.specification.search else "lambda"


def caption(results: Results, stem: str) -> str:
    """Return what a figure shows, for who reads its caption or cannot see it."""
    few = next((title for title in results.aps.values()), "AP")
    return {
        AP_BY_CLASS: "AP of each method by held-out class: the mean over seeds with its standard deviation, "
        "a dot for each seed, and a dotted line where chance is.",
        LEARNING_CURVES: "Cross-entropy, accuracy and AP of each method by epoch, for the first "
        "held-out classes; bands are a standard deviation over seeds.",
        CURVES_BY_CLASS: "AP of each method by epoch, a panel for each held-out class; the dotted line is "
        "chance.",
        PRECISION_RECALL: "Precision against recall of each method at the last evaluation, a panel for each "
        "held-out class and a line for each seed; the dotted line is chance.",
        HISTOGRAMS: "Histograms of the scores of kept and held-out test images at the last evaluation, a row "
        "for each held-out class and a column for each method: the less they overlap, the better. The "
        "outermost bars also hold the hundredth of the scores that lies beyond them.",
        ACCURACY_AGAINST_AP: f"{few} against accuracy on the kept classes, a point for each final cell.",
    }.get(
        stem,
        f"Validation accuracy of {stem.partition('-')[2]} against what was searched, a panel for each study, "
        "with the choice marked.",
    )


def ap_by_class(results: Results) -> Figure | None:
    """Draw each detector's AP of every method by held-out class, ± one standard deviation, and chance."""
    shown = [name for name in results.held_out if results.skew(name) is not None]
    if not shown:
        return None
    columns = min(MOST_ACROSS, len(results.ap_panels))
    lines = math.ceil(len(results.ap_panels) / columns)
    height = 0.9 + len(shown) * max(0.32, 0.13 * len(results.specification.methods))
    figure = new_figure(1.1 + 4.2 * columns, 1.0 + height * lines)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, title in zip_longest(grid.flat, results.ap_panels):
        if title is None:
            axes.set_visible(False)
        else:
            _ap_panel(axes, results, shown, title)
    grid[0, 0].set_yticks(range(len(shown)), [plain(name) for name in shown])
    grid[0, 0].set_ylim(len(shown) - 0.5, -0.5)
    for axes in grid[:, 0]:
        axes.set_ylabel("held-out class")
    n = results.specification.seeds
    spread = f"mean ± standard deviation over {n} seeds" if n > 1 else "one seed"
    if not results.specification.trained:
        spread = "nothing is trained"
    figure.suptitle(f"{results.specification.benchmark}: AP by held-out class, {spread}", fontsize=11)
    add_legend(figure)
    return figure


def _ap_panel(axes: Axes, results: Results, shown: list[str], title: str) -> None:
    methods = results.specification.methods
    for number, method in enumerate(methods):
        metric = results.ap_panels[title].get(method)
        if metric is None:
            continue
        found = [(row, results.estimate(method, name, metric)) for row, name in enumerate(shown)]
        known = [(row, estimate) for row, estimate in found if estimate is not None]
        if not known:
            continue
        offset = (number - (len(methods) - 1) / 2) * 0.55 / len(methods)
        axes.errorbar(
            [100 * estimate.mean for _, estimate in known],
            [row + offset for row, _ in known],
            xerr=[100 * (estimate.std or 0.0) for _, estimate in known],
            label=method,
            linestyle="none",
            capsize=2.5,
            markersize=5,
            **style(method, methods),
        )
        seeds = results.by_class(method, metric)
        dots = [
            (100 * v, row + offset) for row, name in enumerate(shown) for v in seeds.get(name, {}).values()
        ]
        axes.plot(*zip(*dots, strict=True), ".", color="black", markersize=3, zorder=4)
    chance = [100 * (results.skew(name) or 0.0) for name in shown]
    edges = np.arange(len(shown) + 1) - 0.5
    axes.stairs(
        chance, edges, orientation="horizontal", baseline=None, color=GREY, linestyle=":", label=CHANCE
    )
    for edge in edges[1:-1]:
        axes.axhline(edge, color="0.92", linewidth=0.6, zorder=0)
    axes.set_xlabel(f"{title} (%)")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def learning_curves(results: Results) -> Figure | None:
    """Draw loss, accuracy and AP during training for up to three held-out classes."""
    methods = results.specification.trained
    begun = [name for name in results.held_out if any(results.finals_of(m, name) for m in methods)]
    shown = begun[:CURVE_HOLDOUTS]
    if not shown:
        return None
    figure = new_figure(3.4 * len(shown) + 0.9, 8.2)
    grid = figure.subplots(3, len(shown), squeeze=False, sharex="col", sharey="row")
    for column, holdout in enumerate(shown):
        _curve_column(list(grid[:, column]), results, holdout)
    for axes, label in zip(grid[:, 0], ("cross-entropy", "accuracy (%)", "AP (%)"), strict=True):
        axes.set_ylabel(label)
    _log_scale(grid[0, 0])
    grid[2, 0].set_ylim(bottom=0)
    _line_legend(grid[0, 0], {"training": "-", "test": "--"}, "upper right")
    _line_legend(grid[2, 0], {f"AP-{d.label}": line for d, line in _followed(results).items()}, "best")
    n = results.specification.seeds
    spread = f", mean of {n} seeds, bands ± one standard deviation" if n > 1 else ", one seed"
    figure.suptitle(f"{results.specification.benchmark}: during training{spread}", fontsize=11)
    add_legend(figure)
    return figure


def curves_by_class(results: Results) -> Figure | None:
    """Draw AP by the first detector during training for every held-out class, if `learning_curves` cannot."""
    methods, followed = results.specification.trained, list(_followed(results))
    begun = [name for name in results.held_out if any(results.finals_of(m, name) for m in methods)]
    if len(begun) <= CURVE_HOLDOUTS or not followed:
        return None
    shown = begun[:PANELS]
    columns = min(5, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = new_figure(0.6 + 2.1 * columns, 1.1 + 1.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, holdout in zip(grid.flat, shown, strict=False):
        for method in methods:
            finals = results.finals_of(method, holdout)
            if finals:
                look = style(method, results.specification.methods)
                curves = _curves(results, finals)
                _plot(axes, curves, f"ap/{followed[0].name}", look, "-", scale=100, label=method)
        skew = results.skew(holdout)
        if skew is not None:
            axes.axhline(100 * skew, color=GREY, linestyle=":", linewidth=1.2, label=CHANCE)
        axes.set_title(plain(holdout), fontsize=9)
        _whole_epochs(axes)
        add_grid(axes)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    add_x_labels(grid, "epoch")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"AP-{followed[0].label} (%)", fontsize=9)
    grid[0, 0].set_ylim(bottom=0)
    figure.suptitle(f"{results.specification.benchmark}: AP by epoch and held-out class", fontsize=11)
    add_legend(figure)
    return figure


def _curve_column(panels: Sequence[Axes], results: Results, holdout: str) -> None:
    loss, accuracy, ap = panels
    loss.set_title(f"held out: {plain(holdout)}", fontsize=10)
    for method in results.specification.trained:
        finals = results.finals_of(method, holdout)
        if not finals:
            continue
        look = style(method, results.specification.methods)
        curves = _curves(results, finals)
        _plot(loss, curves, "train/loss", look, "-", label=method)
        _plot(loss, curves, "test/loss", look, "--")
        _plot(accuracy, curves, "train/accuracy", look, "-", scale=100)
        _plot(accuracy, curves, "test/accuracy", look, "--", scale=100)
        for detector, line in _followed(results).items():
            _plot(ap, curves, f"ap/{detector.name}", look, line, scale=100)
    skew = results.skew(holdout)
    if skew is not None:
        ap.axhline(100 * skew, color=GREY, linestyle=":", linewidth=1.2, label=CHANCE)
    ap.set_xlabel("epoch")
    _whole_epochs(ap)
    for axes in panels:
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)


def _followed(results: Results) -> dict[DetectorColumn, str]:
    """Return the first detectors that are evaluated during training, with their line styles."""
    windowed = [detector for detector in results.detectors if detector.windowed]
    return dict(zip(windowed, AP_LINES, strict=False))


def _curves(results: Results, finals: Sequence[Final]) -> dict[str, Curve]:
    """Return each metric's curve over the seeds, at the epochs at which all of them were evaluated."""
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(lambda final: results.ledger.read_curves(final.cell.key), finals)
        curves = [curves_with_later(rows, final.later) for rows, final in zip(read, finals, strict=True)]
    found: dict[str, Curve] = {}
    for name in dict.fromkeys(name for seed in curves for row in seed for name in row):
        by_epoch = [
            {row["epoch"]: row[name] for row in seed if row.get(name) is not None}
            for seed in curves
            if any(name in row for row in seed)
        ]
        epochs = sorted(set.intersection(*(set(values) for values in by_epoch)))
        values = np.array([[values[epoch] for epoch in epochs] for values in by_epoch])
        if epochs and name != "epoch":
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(epochs))
            found[name] = np.array(epochs), values.mean(axis=0), spread
    return found


def _plot(
    axes: Axes,
    curves: dict[str, Curve],
    name: str,
    look: Mapping[str, Any],
    line: str,
    *,
    scale: float = 1.0,
    label: str | None = None,
) -> None:
    if name not in curves:
        return
    epochs, means, spreads = curves[name]
    marker = look["marker"] if len(epochs) <= FEW_POINTS else None
    axes.plot(
        epochs, scale * means, color=look["color"], linestyle=line, marker=marker, markersize=3, label=label
    )
    low, high = scale * (means - spreads), scale * (means + spreads)
    axes.fill_between(epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)


def search_choice(studies: Sequence[Selection], what: str = "lambda") -> Figure:
    """Draw validation accuracy against what is searched in each study, with the chosen value marked."""
    searched = [name for name, _ in studies[0].study.definition.dimensions]
    shown = studies[: max(1, PANELS // len(searched))]
    panels = [(study, name) for study in shown for name in searched]
    columns = min(5, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = new_figure(max(5.0, 2.5 * columns), 1.2 + 2.3 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, (study, name) in zip(grid.flat, panels, strict=False):
        _search_panel(axes, study, name, several=len(searched) > 1)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation\naccuracy (%)", fontsize=9)
    left_out = f" (the first {len(shown)} of {len(studies)} studies)" if len(shown) < len(studies) else ""
    chosen = "lambda was" if what == "lambda" else "hyperparameters were"
    figure.suptitle(f"{studies[0].study.definition.method}: how {chosen} chosen{left_out}", fontsize=11)
    add_legend(figure)
    return figure


def _search_panel(axes: Axes, study: Selection, name: str, *, several: bool) -> None:
    """Draw validation accuracy against one thing that is searched; with several seeds, its standard error."""
    definition = study.study.definition
    space, kept = dict(definition.dimensions)[name], [point for point in study.points if not point.diverged]

    def at(what: Hyperparameters) -> float:
        value = parameters(definition, what)[name]
        return space.values.index(value) if isinstance(space, Choices) else float(value)

    places, values = [at(point.tried.what) for point in kept], [100 * point.tried.value for point in kept]
    axes.plot(places, values, "o", color=COLOURS[0], markersize=4.5, label="tried", zorder=3)
    if definition.search_seeds > 1:
        errors = [100 * (point.tried.error or 0.0) for point in kept]
        axes.errorbar(places, values, errors, fmt="none", ecolor=COLOURS[0], elinewidth=1, capsize=2)
    if len(definition.holdouts) > 1:
        by_class = [(at(point.tried.what), 100 * v) for point in kept for v in point.by_holdout.values()]
        axes.plot(*zip(*by_class, strict=True), ".", color="0.75", markersize=4, label="each held-out class")
    diverged = [at(point.tried.what) for point in study.points if point.diverged]
    if diverged:
        bottom = axes.get_xaxis_transform()
        axes.plot(diverged, [0.04] * len(diverged), "x", color="black", transform=bottom, label="diverged")
    if study.chosen is not None:
        value = next(point.tried.value for point in study.points if point.tried.what == study.chosen)
        axes.plot(
            [at(study.chosen)], [100 * value], "o", color=COLOURS[1], markersize=11, fillstyle="none",
            markeredgewidth=1.8, label="chosen", clip_on=False, zorder=4,
        )  # fmt: skip
    held = study.study.label.partition("/")[2]
    chosen = f" (chosen: {short(parameters(definition, study.chosen)[name], 3)})" if study.chosen else ""
    axes.set_title(plain(held) + chosen, fontsize=9)
    _search_axis(axes, space)
    axes.set_xlabel(_axis_name(definition, name, several=several), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def _axis_name(definition: Definition, name: str, *, several: bool) -> str:
    task = next((task for task, _ in definition.spaces if definition.parameter(task) == name), None)
    if task is None:
        return name
    return f"lambda of {task}" if several else "lambda"


def _search_axis(axes: Axes, space: Space) -> None:
    """Scale the axis as the space is, with ticks at its ends and middle, or at its values."""
    if isinstance(space, Choices):
        axes.set_xlim(-0.5, len(space.values) - 0.5)
        axes.set_xticks(range(len(space.values)), [spelt(value) for value in space.values])
        return
    marks = sorted(space.values) if isinstance(space, Grid) else [space.low, space.at(0.5), space.high]
    ratio = marks[-1] / marks[0] if marks[0] > 0 else 0.0
    if isinstance(space, Uniform) or not ratio or (isinstance(space, Integers) and not space.log):
        room = 0.08 * (marks[-1] - marks[0])
        axes.set_xlim(marks[0] - room, marks[-1] + room)
    else:
        axes.set_xscale("log")
        room = ratio**0.08 if ratio > 1 else 2.0
        axes.set_xlim(marks[0] / room, marks[-1] * room)
    axes.set_xticks(marks, [f"{mark:.2g}" for mark in marks])
    axes.minorticks_off()


def _whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _log_scale(axes: Axes) -> None:
    """Make the ordinate logarithmic, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def _line_legend(axes: Axes, lines: dict[str, Any], location: Any) -> None:
    """Explain a panel's line styles, which mean the same in every colour."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = [
        Line2D([], [], color=GREY, linestyle=line, label=name) for name, line in lines.items()
    ]
    axes.add_artist(axes.legend(handles=handles, loc=location, fontsize=8, frameon=False))

"""Figures: they show the ledger's values and are PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.reporting.drawing import add_legend, as_files, new_figure
from orchestrator.reporting.figures import (
    ap_by_class,
    curves_by_class,
    draw_figures,
    learning_curves,
    search_choice,
)
from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.score_figures import accuracy_against_ap
from orchestrator.reporting.scored import read_scored
from orchestrator.tracking.records import cell_record
from tests.hand_made_ledger import curve_rows, finish, plain_value, specification, write_sweep


def swept(storage: Path, values: Any = None, **changes: Any) -> Results:
    """A finished sweep; `values` replaces reported values of search cells."""
    wanted = specification(**changes)
    ledger, cells = write_sweep(storage, wanted)
    for cell in cells.all():
        search = cell.phase == SEARCH and values is not None
        finish(ledger, wanted, cell, values=values(cell) if search else None)
    return collect(ledger)


def drawn(results: Results) -> dict[str, bytes]:
    """The figures' PNG files, each of which has a PDF file beside it."""
    files = draw_figures(results, read_scored(results))
    pngs = {name: data for name, data in files.items() if name.endswith(".png")}
    for name in pngs:
        assert files[name.replace(".png", ".pdf")].startswith(b"%PDF-")
    assert len(files) == 2 * len(pngs)
    return pngs


def test_figures_are_png_files_of_a_readable_size(tmp_path: Path) -> None:
    figures = drawn(swept(tmp_path))
    stems = {"ap-by-class", "learning-curves", "lambda-rotation", "accuracy-against-ap"}
    assert set(figures) == {f"{stem}.png" for stem in stems}
    for data in figures.values():
        image = Image.open(io.BytesIO(data))
        assert image.format == "PNG"
        assert 600 <= image.width <= 3000
        assert 300 <= image.height <= 3000
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_a_method_that_trains_nothing_has_a_panel_of_its_own_and_no_curve(tmp_path: Path) -> None:
    results = swept(tmp_path, methods=("classification", "edge-energy"))
    figure = ap_by_class(results)
    assert figure is not None
    msp, _, own = figure.axes
    assert own.get_xlabel() == "AP (%)"
    assert [len(axes.containers) for axes in (msp, own)] == [1, 1]
    assert own.containers[0].lines[0].get_xdata() == pytest.approx([20.0, 20.0])
    curves = learning_curves(results)
    assert curves is not None
    assert "edge-energy" not in {text.get_text() for text in curves.legends[0].get_texts()}
    alone = swept(tmp_path / "alone", methods=("edge-energy",))
    assert set(drawn(alone)) == {"ap-by-class.png"}


def test_a_method_has_the_colour_of_its_runs_in_mlflow(tmp_path: Path) -> None:
    methods = ("rotation", "pixel-gaussian", "classification")
    results = swept(tmp_path, methods=methods)
    figure = accuracy_against_ap(results)
    assert figure is not None
    drawn_with = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert set(drawn_with) == {"rotation", "classification"}
    for method, colour in drawn_with.items():
        cell = next(cell for cell in results.cells.all() if cell.method == method)
        record = cell_record(cell, results.specification, results.ledger)
        assert record.looks == {"mlflow.runColor": colour}
    curves = learning_curves(results)
    assert curves is not None
    (entries,) = curves.legends
    seen = dict(zip([text.get_text() for text in entries.get_texts()], entries.get_lines(), strict=True))
    assert {name: seen[name].get_color() for name in drawn_with} == drawn_with


def test_a_legend_is_no_wider_than_its_figure() -> None:
    long = tuple(f"rotation+center-mask-{number}" for number in range(4))
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    for label in (*long, "classification"):
        axes.plot([0, 1], [0, 1], label=label)
    add_legend(figure)
    as_files("figure", figure)  # which lays it out
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= 5.0 * figure.dpi
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == 2


def test_ap_by_class_shows_means_deviations_and_chance(tmp_path: Path) -> None:
    results = swept(tmp_path, holdouts=("3", "8", "none"))
    figure = ap_by_class(results)
    assert figure is not None
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["3", "8"]
    assert (left.get_xlabel(), right.get_xlabel()) == ("AP-MSP (%)", "AP-ODIN (%)")
    classification, rotation = left.containers[:2]
    dots = [line for line in left.lines if line.get_marker() == "."]
    assert sorted(dots[0].get_xdata()) == pytest.approx([30.0, 30.0, 31.0, 31.0, 32.0, 32.0])
    # 0.30, 0.31, 0.32 and, with rotation, 0.05 more: deviation 0.01.
    assert classification.lines[0].get_xdata() == pytest.approx([31.0, 31.0])
    assert rotation.lines[0].get_xdata() == pytest.approx([36.0, 36.0])
    ends = rotation.lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([35.0, 37.0])
    chance = left.patches[0].get_data()
    assert chance.values == pytest.approx([10.0, 10.0])
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "classification",
        "rotation",
        "chance",
    }


def test_learning_curves_are_the_means_of_the_ledger_s_curves(tmp_path: Path) -> None:
    results = swept(tmp_path, holdouts=("0", "1", "2", "3"))
    figure = learning_curves(results)
    assert figure is not None
    assert len(figure.axes) == 9  # three of the four held-out classes
    loss, ap = figure.axes[0], figure.axes[6]
    seeds = [Cell("", FINAL, "0", "classification", seed) for seed in range(3)]
    reported = [
        {f"final/{m}": plain_value(cell, m) for m in ("ap_msp", "ap_odin", "test_accuracy")} for cell in seeds
    ]
    curves = [curve_rows(results.specification, cell, r) for cell, r in zip(seeds, reported, strict=True)]
    expected = np.mean([[row["train/loss"] for row in curve] for curve in curves], axis=0)
    assert loss.lines[0].get_ydata() == pytest.approx(expected)
    window = results.specification.recipe.ap_window
    ap_values = np.mean([[row["ap/msp"] for row in curve[-window:]] for curve in curves], axis=0)
    assert ap.lines[0].get_ydata() == pytest.approx(100 * ap_values)
    epochs = results.specification.recipe.epochs
    assert list(ap.lines[0].get_xdata()) == list(range(epochs - window + 1, epochs + 1))


def test_every_class_s_ap_by_epoch_is_drawn_if_they_are_many(tmp_path: Path) -> None:
    results = swept(tmp_path, holdouts=("0", "1", "2", "3"), seeds=1)
    figure = curves_by_class(results)
    assert figure is not None
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["0", "1", "2", "3"]
    assert len(shown[3].lines) == 3  # two methods and chance
    assert curves_by_class(swept(tmp_path / "few", seeds=1)) is None


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    results = swept(tmp_path, seeds=1, methods=("classification",))
    assert draw_figures(results, {}) == draw_figures(results, {})


def test_lambda_is_shown_with_the_chosen_one_marked(tmp_path: Path) -> None:
    def values(cell: Cell) -> dict[str, Any]:
        return {"value": 0.0, "diverged": True} if cell.search_index == 3 else {}

    results = swept(tmp_path, values)
    figure = search_choice(results.selections)
    panel = figure.axes[0]
    assert panel.get_title() == "3 (chosen: 0.4)"
    lines = {line.get_label(): line for line in panel.lines}
    assert list(lines["tried"].get_xdata()) == pytest.approx([0.1, 0.2, 0.4])
    assert list(lines["tried"].get_ydata()) == pytest.approx([88.0, 89.0, 90.0])
    assert (list(lines["chosen"].get_xdata()), list(lines["chosen"].get_ydata())) == ([0.4], [90.0])
    assert list(lines["diverged"].get_xdata()) == pytest.approx([0.8])
    low, high = panel.get_xlim()
    assert low < 0.05 < 5 < high  # the whole space of lambda


def test_one_lambda_for_the_benchmark_shows_every_held_out_class(tmp_path: Path) -> None:
    def values(cell: Cell) -> dict[str, Any]:
        return {"value": 0.5 if cell.holdout == "3" else 0.7}

    figure = search_choice(swept(tmp_path, values, select="benchmark").selections)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["tried"].get_ydata()) == pytest.approx([60.0] * 4)
    assert sorted(lines["each held-out class"].get_ydata()) == pytest.approx([50.0] * 4 + [70.0] * 4)


def test_names_that_look_like_formulas_are_shown_as_they_are(tmp_path: Path) -> None:
    classes = ("a$b$", "$\\frac$", "_c")
    wanted = specification(classes, benchmark="image-folder", assignments=("image_size=32",), seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted, classes=classes)
    for cell in cells.all():
        finish(ledger, wanted, cell, classes=classes)
    assert "ap-by-class.png" in drawn(collect(ledger))


def test_figures_without_content_are_left_out(tmp_path: Path) -> None:
    whole = swept(tmp_path / "whole", holdouts=("none",), aux_weight=("0.4",))
    assert drawn(whole) == {}
    ledger, _ = write_sweep(tmp_path / "new", specification())
    assert drawn(collect(ledger)) == {}

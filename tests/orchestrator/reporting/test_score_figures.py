"""Figures of single images' scores: precision and recall, histograms, and accuracy against AP."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.score_figures import accuracy_against_ap, histograms, precision_recall
from orchestrator.reporting.scored import Scores, read_scored
from tests.hand_made_ledger import finish, scores_of, specification, write_sweep
from trainables.metrics import average_precision


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Scores]:
    """A sweep of two methods and two seeds, of which rotation with 8 held out lacks a seed."""
    wanted = specification(aux_weight=("0.4",), seeds=2)
    ledger, cells = write_sweep(tmp_path_factory.mktemp("swept"), wanted)
    for cell in cells.all():
        if cell.label != "rotation/8/s1":
            finish(ledger, wanted, cell, scores=scores_of(cell))
    results = collect(ledger)
    return results, read_scored(results)


def test_the_area_under_precision_and_recall_is_ap(swept: tuple[Results, Scores]) -> None:
    figure = precision_recall(*swept)
    assert figure is not None
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["held out: 3", "held out: 8"]
    assert [len(axes.lines) for axes in (left, right)] == [5, 4]  # a line per cell, and chance
    recall, precision = left.lines[0].get_data()
    area = np.sum(np.diff(recall) * precision[1:]) / 10_000
    scored = swept[1]["classification", "3"][0]
    assert area == pytest.approx(average_precision(scored.scores, scored.is_anomaly))
    assert list(left.lines[-1].get_ydata()) == pytest.approx([10.0, 10.0])


def test_histograms_show_every_image_of_both_kinds(swept: tuple[Results, Scores]) -> None:
    figure = histograms(*swept)
    assert figure is not None
    assert len(figure.axes) == 4
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert texts == {"kept classes", "held-out class"}
    assert figure.axes[0].get_title() == "classification (MSP)"
    for axes in figure.axes:
        assert len(axes.patches) == 2
        for patch in axes.patches:
            corners = patch.get_xy()
            width = np.diff(np.unique(corners[:, 0]))[0]
            top = [max(corners[np.isclose(corners[:, 0], x), 1]) for x in np.unique(corners[:, 0])[:1]]
            assert width > 0
            assert max(corners[:, 1]) <= 1
            assert top[0] >= 0


def test_every_final_cell_is_a_point_of_accuracy_and_ap(swept: tuple[Results, Scores]) -> None:
    figure = accuracy_against_ap(swept[0])
    assert figure is not None
    classification, rotation = figure.axes[0].lines
    assert (len(classification.get_xdata()), len(rotation.get_xdata())) == (4, 3)
    assert sorted(classification.get_xdata()) == pytest.approx([90.0, 90.0, 91.0, 91.0])
    assert sorted(rotation.get_ydata()) == pytest.approx([35.0, 35.0, 36.0])


def test_without_scores_there_is_nothing_to_draw(swept: tuple[Results, Scores]) -> None:
    assert precision_recall(swept[0], {}) is None
    assert histograms(swept[0], {}) is None

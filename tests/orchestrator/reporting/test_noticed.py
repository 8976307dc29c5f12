"""What scores tell of a held-out class: the interval of its AP, and how many images are noticed."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.planning.cells import FINAL, Cell
from orchestrator.reporting.noticed import Sureness, ap_interval, noticed
from orchestrator.reporting.scored import Scored
from orchestrator.reporting.tables import Count, Interval
from trainables.metrics import average_precision


def scored(scores: np.ndarray, is_anomaly: np.ndarray) -> Scored:
    cell = Cell("k", FINAL, "cat", "rotation", 0)
    return Scored(cell, np.arange(len(scores)), scores, is_anomaly, None, None)


def test_a_twentieth_of_the_kept_images_may_be_flagged_and_equal_scores_are_not() -> None:
    kept = np.arange(40.0)  # 38 and 39 may be flagged: what is noticed is above 37
    held_out = np.array([36.0, 37.0, 37.5, 50.0])
    both = scored(np.concatenate([kept, held_out]), np.repeat([False, True], [40, 4]))
    assert noticed(both) == Count(2, 4)
    few = scored(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    assert noticed(few) == Count(1, 2)


def test_the_interval_is_about_the_ap_of_the_metrics() -> None:
    draws = np.random.default_rng(5)
    is_anomaly = np.arange(300) % 10 == 0
    scores = np.round(draws.normal(size=300) + 1.5 * is_anomaly, 1)  # with ties
    found = ap_interval([scored(scores, is_anomaly)])
    assert found is not None
    assert found.value == pytest.approx(average_precision(scores, is_anomaly))
    assert 0.1 < found.low < found.value < found.high < 1
    twice = ap_interval([scored(scores, is_anomaly)] * 2)
    assert twice == found
    other = ap_interval([scored(scores, is_anomaly), scored(-scores, is_anomaly)])
    assert other is not None
    assert other.value < found.value


def test_few_held_out_images_have_no_interval() -> None:
    is_anomaly = np.arange(100) < 4
    assert ap_interval([scored(np.arange(100.0), is_anomaly)]) is None


def test_random_scores_are_rarely_called_better_than_guessing() -> None:
    draws, is_anomaly = np.random.default_rng(1), np.arange(120) < 12
    better = 0
    for _ in range(40):
        found = ap_interval([scored(draws.random(120), is_anomaly)])
        assert found is not None
        better += found.low > 0.1
    assert better <= 2


@pytest.mark.parametrize(
    ("low", "high", "guesses"), [(0.09, 0.2, True), (0.02, 0.08, True), (0.11, 0.2, False)]
)
def test_what_includes_the_share_of_anomalies_or_lies_below_it_is_guessing(
    low: float, high: float, guesses: bool
) -> None:
    about = Sureness("rotation", "cat", 0.1, Interval(0.15, low, high), Count(1, 2))
    assert about.guesses == guesses

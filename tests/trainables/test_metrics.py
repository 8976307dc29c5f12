"""The metrics compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from trainables.metrics import auroc, average_precision, fpr_at_95_tpr, metrics_beside

METRICS = (average_precision, auroc, fpr_at_95_tpr)


@st.composite
def mixed(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few or many levels, so with and without ties, of at least one anomaly and normal image."""
    is_anomaly = np.array([True, False, *draw(st.lists(st.booleans(), max_size=60))])
    levels = draw(st.integers(1, 200))
    level = st.integers(-levels, levels)
    scores = draw(st.lists(level, min_size=len(is_anomaly), max_size=len(is_anomaly)))
    return np.array(scores) / 7, is_anomaly


def fpr_of_the_curve(scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    fpr, tpr, _ = roc_curve(is_anomaly, scores, drop_intermediate=False)
    return float(fpr[tpr >= 0.95].min())


def test_average_precision_is_scikit_learn_s_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        n = int(rng.integers(2, 200))
        levels = int(rng.integers(1, 50))
        scores = rng.integers(0, levels, n) / levels
        anomalies = rng.random(n) < rng.uniform(0.02, 0.9)
        anomalies[rng.integers(n)] = True
        assert average_precision(scores, anomalies) == pytest.approx(
            average_precision_score(anomalies, scores), abs=1e-12
        )


@settings(max_examples=150, deadline=None)
@given(mixed())
def test_all_are_scikit_learn_s(example: tuple[np.ndarray, np.ndarray]) -> None:
    scores, is_anomaly = example
    assert average_precision(scores, is_anomaly) == pytest.approx(
        average_precision_score(is_anomaly, scores), abs=1e-12
    )
    assert auroc(scores, is_anomaly) == pytest.approx(roc_auc_score(is_anomaly, scores), abs=1e-12)
    assert fpr_at_95_tpr(scores, is_anomaly) == pytest.approx(fpr_of_the_curve(scores, is_anomaly), abs=1e-12)


def test_many_images() -> None:
    rng = np.random.default_rng(0)
    is_anomaly = rng.random(100_000) < 0.1
    scores = rng.normal(size=100_000) + is_anomaly
    assert auroc(scores, is_anomaly) == pytest.approx(roc_auc_score(is_anomaly, scores), abs=1e-12)
    assert fpr_at_95_tpr(scores, is_anomaly) == pytest.approx(fpr_of_the_curve(scores, is_anomaly), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(mixed())
def test_only_the_order_of_the_scores_counts(example: tuple[np.ndarray, np.ndarray]) -> None:
    scores, is_anomaly = example
    for metric in METRICS:
        assert metric(np.arctan(scores), is_anomaly) == metric(scores, is_anomaly)
    assert auroc(-scores, is_anomaly) == pytest.approx(1 - auroc(scores, is_anomaly), abs=1e-12)


def test_auroc_counts_won_pairs_and_half_of_the_ties() -> None:
    scores, is_anomaly = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert auroc(scores, is_anomaly) == (2 + 0.5) / 4


@pytest.mark.parametrize(("missed", "expected"), [(1, 0.0), (2, 1.0)])
def test_19_of_20_anomalies_are_95_percent(missed: int, expected: float) -> None:
    scores = np.array([2.0] * (20 - missed) + [0.0] * missed + [1.0] * 4)
    assert fpr_at_95_tpr(scores, np.arange(24) < 20) == expected


def test_separated_and_equal_scores() -> None:
    is_anomaly = np.array([True, True, False])
    assert [metric(np.array([2.0, 1.0, 0.0]), is_anomaly) for metric in METRICS] == [1, 1, 0]
    assert [metric(np.zeros(3), is_anomaly) for metric in METRICS] == [2 / 3, 0.5, 1]
    assert [metric(np.array([np.inf, 1.0, -np.inf]), is_anomaly) for metric in METRICS] == [1, 1, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_need_an_anomaly_and_numbers(metric) -> None:
    with pytest.raises(ValueError, match="at least one anomaly"):
        metric(np.array([0.1, 0.2]), np.array([False, False]))
    with pytest.raises(ValueError, match="NaN"):
        metric(np.array([0.1, np.nan]), np.array([False, True]))


@pytest.mark.parametrize("metric", [auroc, fpr_at_95_tpr])
def test_two_of_them_need_a_normal_image(metric) -> None:
    with pytest.raises(ValueError, match="at least one normal image"):
        metric(np.array([0.1, 0.2]), np.array([True, True]))
    assert average_precision(np.array([0.1, 0.2]), np.array([True, True])) == 1


def test_an_image_set_s_metrics_are_scikit_learn_s_beside_the_normal_images() -> None:
    rng = np.random.default_rng(5)
    normal = {"a": rng.normal(size=30), "b": rng.normal(size=30)}
    others = {"a": rng.normal(1, size=12), "b": rng.normal(size=12)}
    found = metrics_beside("mine", normal, others)
    label = [0] * 30 + [1] * 12
    for name in ("a", "b"):
        scores = np.concatenate([normal[name], others[name]])
        assert found[f"ood/mine/ap_{name}"] == pytest.approx(average_precision_score(label, scores))
        assert found[f"ood/mine/auroc_{name}"] == pytest.approx(roc_auc_score(label, scores))
        assert 0 < found[f"ood/mine/fpr95_{name}"] <= 1
    assert found["ood/mine/skew"] == pytest.approx(12 / 42)
    assert len(found) == 7

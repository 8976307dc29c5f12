"""Estimates and paired comparisons against numpy, scipy and enumeration by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from orchestrator.reporting.statistics import (
    LOWERS,
    NO_CHANGE,
    RAISES,
    TOO_FEW,
    Estimate,
    average_over_classes,
    bootstrap_interval,
    compare,
    describe_comparison,
    difference,
    estimate,
    paired_differences,
    signed_rank_p,
)


def enumerated_p(values: list[float]) -> float:
    """Wilcoxon's two-sided p over all 2^n sign patterns of the ranked absolute differences."""
    ranks = scipy.stats.rankdata(np.abs(values))
    centre = ranks.sum() / 2
    seen = abs(ranks[np.array(values) > 0].sum() - centre)
    patterns = itertools.product((0, 1), repeat=len(values))
    far = [abs(np.dot(signs, ranks) - centre) >= seen - 1e-9 for signs in patterns]
    return sum(far) / len(far)


def test_estimates_agree_with_numpy() -> None:
    values = [0.4330, 0.4687, 0.1413, 0.1739]
    found = estimate(values)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(values), rel=1e-14)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-14)
    assert found.standard_error == pytest.approx(scipy.stats.sem(values), rel=1e-14)
    assert estimate(v for v in [0.25, 0.25, 0.25]) == Estimate(0.25, 0.0, 3)


def test_one_value_has_no_deviation_and_none_no_mean() -> None:
    assert estimate([0.3]) == Estimate(0.3, None, 1)
    assert Estimate(0.3, None, 1).standard_error is None
    assert estimate([]) is None


def test_an_average_s_deviation_is_over_the_seeds_averages() -> None:
    values = {"cat": {0: 0.30, 1: 0.40, 2: 0.50}, "dog": {0: 0.50, 1: 0.40, 2: 0.30}}
    average = average_over_classes(values, ("cat", "dog"))
    assert average is not None
    assert average.mean == pytest.approx(0.40)
    assert average.std == pytest.approx(0.0, abs=1e-12)  # while each class's own is 0.1
    shifted = average_over_classes({**values, "dog": {0: 0.6, 1: 0.5, 2: 0.4}}, ("cat", "dog"))
    assert shifted is not None
    assert shifted.mean == pytest.approx(0.45)


def test_seeds_that_lack_a_class_are_left_out_of_the_average() -> None:
    values = {"cat": {0: 0.2, 1: 0.4}, "dog": {1: 0.6, 2: 0.9}}
    assert average_over_classes(values, ("cat", "dog")) == Estimate(0.5, None, 1)
    assert average_over_classes(values, ("cat", "dog", "frog")) is None
    assert average_over_classes({"cat": {0: 0.1}, "dog": {1: 0.1}}, ("cat", "dog")) is None
    assert average_over_classes(values, ()) is None


def test_pairs_are_over_the_seeds_that_both_have() -> None:
    ours = {"cat": {0: 0.5, 1: 0.7, 3: 9.0}, "dog": {0: 0.5}, "frog": {1: 0.5}}
    others = {"cat": {0: 0.4, 1: 0.4, 2: 9.0}, "dog": {1: 0.5}}
    assert paired_differences(ours, others) == {"cat": pytest.approx(0.2)}


def test_a_difference_s_error_adds_the_two_in_quadrature() -> None:
    found = difference(Estimate(0.40, 0.03, 9), Estimate(0.35, 0.04 * math.sqrt(3), 3))
    assert found.value == pytest.approx(0.05)
    assert found.standard_error == pytest.approx(math.sqrt(0.01**2 + 0.04**2))
    assert difference(Estimate(0.4, None, 1), Estimate(0.3, 0.1, 3)).standard_error is None


@pytest.mark.parametrize(
    "values",
    [
        [0.05, 0.03, 0.15, -0.01, 0.07, 0.115],
        [0.05, 0.05, -0.05, 0.02, 0.02, 0.09, 0.11, -0.02],  # ties
        [-0.3, 0.1],
        [0.01 * (-1.2) ** k for k in range(10)],
    ],
)
def test_p_values_equal_the_full_enumeration_s(values: list[float]) -> None:
    assert signed_rank_p(np.array(values)) == pytest.approx(enumerated_p(values), rel=1e-9)


def test_zeros_are_dropped_and_nothing_but_zeros_is_no_evidence() -> None:
    assert signed_rank_p(np.array([0.0, 0.1, 0.2, 0.3])) == pytest.approx(enumerated_p([0.1, 0.2, 0.3]))
    assert signed_rank_p(np.zeros(7)) == 1.0


def test_the_bootstrap_interval_agrees_with_scipy_and_repeats() -> None:
    values = np.array([0.036, 0.033, 0.049, 0.151, 0.012, 0.067, 0.115, 0.038, 0.010, 0.021])
    low, high = bootstrap_interval(values)
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert (low, high) == (pytest.approx(reference.low, abs=1e-3), pytest.approx(reference.high, abs=1e-3))
    assert bootstrap_interval(values) == (low, high)


def test_the_order_of_the_classes_does_not_matter() -> None:
    values = [0.03, 0.01, 0.07, -0.02, 0.05, 0.06]
    assert compare(values) == compare(values[::-1])


def test_verdicts() -> None:
    up = [0.04, 0.03, 0.05, 0.15, 0.01, 0.07, 0.12]
    assert compare(up).verdict == RAISES
    assert compare([-value for value in up]).verdict == LOWERS
    assert compare([0.02, -0.03, 0.01, -0.015, 0.005, 0.03, -0.02]).verdict == NO_CHANGE
    assert compare([0.1] * 4).verdict == TOO_FEW
    assert [compare([0.1] * n).interval for n in (1, 4)] == [None, None]
    assert compare([0.1] * 5).interval == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError, match="at least one"):
        compare([])


def test_five_classes_cannot_reach_five_percent_and_six_can() -> None:
    assert compare([0.10, 0.11, 0.12, 0.13, 0.14]).p == pytest.approx(0.0625)
    assert compare([0.10, 0.11, 0.12, 0.13, 0.14]).verdict == TOO_FEW
    assert compare([0.10, 0.11, 0.12, 0.13, 0.14, 0.15]).verdict == RAISES


def test_sentences_say_what_was_found_and_when_nothing_can_be() -> None:
    raised = describe_comparison("rotation", "AP-MSP", compare([0.04, 0.03, 0.05, 0.15, 0.01, 0.08]))
    assert raised.startswith("rotation raises AP-MSP by 6.00 points [")
    assert "over 6 held-out classes, p = 0.031" in raised
    unclear = describe_comparison("rotation", "AP-MSP", compare([0.02, -0.03, 0.01, -0.015, 0.005, 0.03]))
    assert unclear.startswith("rotation does not measurably change AP-MSP: +0.33 points [")
    assert "too few classes to tell" in describe_comparison("rotation", "AP-MSP", compare([0.1] * 5))
    few, single = (describe_comparison("rotation", "AP-MSP", compare([-0.1] * n)) for n in (4, 1))
    too_few = "too few for an interval or a test."
    assert few == f"rotation, AP-MSP: -10.00 points over 4 held-out classes, {too_few}"
    assert single == f"rotation, AP-MSP: -10.00 points over 1 held-out class, {too_few}"

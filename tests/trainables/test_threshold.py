"""Thresholds for a rate of false alarms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from trainables.mistake import Mistake
from trainables.threshold import fewest, find_threshold


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [
        (19, "0.05", 19),  # the fewest for the rate: only what is above all of them is flagged
        (20, "0.05", 20),
        (39, "0.05", 38),
        (99, "0.05", 95),
        (99, "0.1", 90),
        (719, "0.05", 684),
        (9, "0.7", 3),  # in binary fractions 10 * (1 - 0.7) is a little more than 3
    ],
)
def test_the_threshold_is_the_score_of_the_conformal_rank(count: int, rate: str, rank: int) -> None:
    scores = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    found = find_threshold(scores, Fraction(rate))
    assert (found.rank, found.value, found.count) == (rank, rank, count)


@pytest.mark.parametrize("rate", ["0.05", "0.1", "0.3"])
@pytest.mark.parametrize("count", [19, 24, 50])
def test_of_exchangeable_images_no_more_are_flagged_than_was_asked(count: int, rate: str) -> None:
    """Each of n + 1 images is as likely to be the new one; ties are not flagged."""
    asked = Fraction(rate)
    for scores in (np.arange(count + 1.0), np.arange(count + 1) // 3 + 0.0):
        flagged = [
            find_threshold(np.delete(scores, new), asked).flags(scores[new : new + 1])[0]
            for new in range(count + 1)
        ]
        assert sum(flagged) <= asked * (count + 1)
    distinct = np.arange(count + 1.0)
    alone = [find_threshold(np.delete(distinct, n), asked).flags(distinct[[n]]) for n in range(count + 1)]
    assert np.sum(alone) == int(asked * (count + 1))  # and no fewer than ranks allow


def test_too_few_scores_are_refused_with_the_rate_that_they_allow() -> None:
    assert fewest(Fraction("0.05")) == 19
    with pytest.raises(Mistake, match=r"at least 19 images .* are 18: ask for a rate of 0\.053 or more"):
        find_threshold(np.zeros(18), Fraction("0.05"))
    assert find_threshold(np.zeros(18), Fraction("0.053")).count == 18

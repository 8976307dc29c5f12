"""The score above which an image is flagged, for a rate of false alarms that is asked for.

The threshold is the k-th smallest of n scores, k = ceil((n + 1)(1 - a)) for the rate a: split conformal
prediction. The rank of one more score among n + 1 exchangeable ones is uniform, so it lies above the k-th of
the others with a probability of at most 1 - k / (n + 1) <= a, whatever the detector and the distribution.
This holds on average over the n images. For the threshold that these give, the share of false alarms among
many new images is Beta(n + 1 - k, k) if no scores are equal, and smaller if some are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trainables.mistake import Mistake


@dataclass(frozen=True)
class Threshold:
    """A score, above which images are flagged: the `rank`-th smallest of `count`, for a rate above 0."""

    value: float
    rank: int
    count: int
    rate: Fraction

    def flags(self, scores: np.ndarray) -> np.ndarray:
        """Return which of the scores (n,) are flagged, bool (n,)."""
        flagged: np.ndarray = scores > self.value
        return flagged


def fewest(rate: Fraction) -> int:
    """Return how many scores a threshold for a rate, above 0 and below 1, takes at least."""
    return math.ceil(1 / rate) - 1


def find_threshold(scores: np.ndarray, rate: Fraction) -> Threshold:
    """Return the threshold for a rate of false alarms, from float scores (n,) of images that are none.

    Raise Mistake if they are too few: then nothing could be flagged.
    """
    count = len(scores)
    if count < fewest(rate):
        raise Mistake(
            f"A threshold for a false-alarm rate of {float(rate):g} takes at least {fewest(rate)} images on "
            f"which the network was not trained, and there are {count}: ask for a rate of "
            f"{math.ceil(Fraction(1000, count + 1)) / 1000:g} or more."
        )
    rank = math.ceil((count + 1) * (1 - rate))
    return Threshold(float(np.sort(scores)[rank - 1]), rank, count, rate)

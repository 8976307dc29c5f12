"""The energy score."""

from __future__ import annotations

from torch import Tensor

from trainables.detectors.contract import LOGITS, Detector


class Energy(Detector):
    """The free energy of an image at temperature 1: -log sum_k exp(logits_k).

    Source: Liu, Wang, Owens & Li (2020, NeurIPS), "Energy-based out-of-distribution detection", equation 4
    with T = 1, which they recommend. They threshold the negative energy, for which higher is more normal.
    """

    name = "energy"
    label = "Energy"
    needs = LOGITS

    def score(self, logits: Tensor) -> Tensor:
        """Return the scores, (n,), of logits (n, K), in the logits' dtype."""
        return -logits.logsumexp(1)

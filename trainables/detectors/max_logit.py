"""The maximum logit."""

from __future__ import annotations

from torch import Tensor

from trainables.detectors.contract import LOGITS, Detector


class MaxLogit(Detector):
    """Minus the largest logit: -max_k logits_k.

    Source: Hendrycks et al. (2022, ICML), "Scaling out-of-distribution detection for real-world settings",
    where it is called MaxLogit.
    """

    name = "max-logit"
    label = "Max logit"
    needs = LOGITS

    def score(self, logits: Tensor) -> Tensor:
        """Return the scores, (n,), of logits (n, K), in the logits' dtype."""
        return -logits.max(1).values

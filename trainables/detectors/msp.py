"""Maximum softmax probability (MSP)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainables.detectors.contract import LOGITS, Detector


class MSP(Detector):
    """Minus the largest softmax probability: -max_k softmax(logits)_k, between -1 and -1/K.

    Source: Hendrycks & Gimpel (2017, ICLR), "A baseline for detecting misclassified and out-of-distribution
    examples in neural networks", section 3. The softmax is computed in float64, where neither confident
    predictions (up to a logit gap of about 36) nor ODIN's T = 1000 cause ties that the logits do not have.
    """

    name = "msp"
    label = "MSP"
    needs = LOGITS

    def score(self, logits: Tensor) -> Tensor:
        """Return the scores, float64 (n,), of logits (n, K)."""
        return -F.log_softmax(logits.double(), 1).max(1).values.exp()

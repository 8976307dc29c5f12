"""The entropy of the softmax."""

from __future__ import annotations

from torch import Tensor

from trainables.detectors.contract import LOGITS, Detector


class Entropy(Detector):
    """The Shannon entropy of the predicted distribution p = softmax(logits), in nats: -sum_k p_k log p_k.

    Source: Shannon (1948, Bell System Technical Journal), section 6; as a score of anomalies, for example in
    Chan, Rottmann & Gottschalk (2021, ICCV), who divide by log K. A probability that underflows contributes
    0, the limit of p log p. Some implementations clip probabilities (pytorch-ood at 1e-7), which makes
    confident predictions tie; this one does not.
    """

    name = "entropy"
    label = "Entropy"
    needs = LOGITS

    def score(self, logits: Tensor) -> Tensor:
        """Return the scores, (n,), of logits (n, K), in the logits' dtype; they are from 0 to log K."""
        log_p = logits.log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

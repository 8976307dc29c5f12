"""Virtual-logit matching (ViM)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.detectors.contract import FEATURES, Detector
from trainables.detectors.mahalanobis import rounding_variance


class ViM(Detector):
    """The norm of the feature's residual outside a principal space, scaled as a logit, minus log-sum-exp.

    Source: Wang, Li, Feng & Zhang (2022, CVPR), "ViM: Out-of-distribution with virtual-logit matching",
    section 4. For a classifier logits = W f + b:

    - features are taken relative to the origin o = -W^+ b, at which the logits vanish;
    - the principal space is that of the D' largest eigenvalues of the training features' second moments
      about o, and the residual r(f) is f - o less its projection on that space (equation 4);
    - alpha = sum of the largest logits / sum of |r|, over the training images (equation 6);
    - the score is alpha |r(f)| - log sum_k exp(logits_k): the log-odds of the virtual logit alpha |r(f)|,
      which rank as its probability does (equation 7).

    Everything is computed in float64. Where the literature leaves a choice:

    - W and b are not given to a detector, but the logits are W f + b, so that least squares recovers them
      from the training features and logits. Exactly so, but for the rounding of the logits, if the features
      span the space. If they do not (units that are always 0, fewer images than units), W is the solution of
      the smallest norm, which is 0 in the directions in which the training features do not vary. The logits
      of the training images are the same then, but o may differ from the classifier's own.
    - D' is 1000 for D >= 2048 and 512 for D >= 768. The authors' code uses 512 for all smaller D, which
      leaves no residual if D <= 512; half of D is usual then, and is used here for D < 768.
    - If the training features span no more than D' dimensions they have no residual, and alpha is not
      defined. D' is half of the spanned dimensions then. If all features equal o, alpha is 0 and the score
      is the energy.
    - alpha is negative if the training images' largest logits are negative on average, as in the paper.
    """

    name = "vim"
    label = "ViM"
    needs = FEATURES

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Compute origin (D,), principal space (D, D') and alpha from features (n, D) and logits (n, K)."""
        features, logits = features.double(), logits.double()
        self.origin = classifier_origin(features, logits)
        shifted = features - self.origin
        variances, directions = torch.linalg.eigh(shifted.T @ shifted / len(shifted))
        spanned = int((variances > rounding_variance(shifted)).sum())
        dimension = principal_dimension(features.shape[1])
        if spanned <= dimension:
            dimension = spanned // 2
        self.principal = directions[:, len(variances) - dimension :]
        residuals = self._residual_norms(features).sum().item()
        self.alpha = logits.max(1).values.sum().item() / residuals if residuals > 0 else 0.0

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the scores, float64 (n,), of features (n, D) and logits (n, K)."""
        return self.alpha * self._residual_norms(features.double()) - logits.double().logsumexp(1)

    def _residual_norms(self, features: Tensor) -> Tensor:
        shifted = features - self.origin
        residuals = shifted - shifted @ self.principal @ self.principal.T
        norms: Tensor = torch.linalg.vector_norm(residuals, dim=1)
        return norms


def principal_dimension(features: int) -> int:
    """Return the dimension D' of the principal space of a number of features."""
    if features >= 2048:
        return 1000
    return 512 if features >= 768 else features // 2


def classifier_origin(features: Tensor, logits: Tensor) -> Tensor:
    """Return -W^+ b, (D,), of the classifier with logits (n, K) = features (n, D) W^T + b, in float64."""
    mean, mean_logits = features.mean(0), logits.mean(0)
    centred = features - mean
    scatter = centred.T @ centred
    inverse = torch.linalg.pinv(
        scatter, atol=len(features) * rounding_variance(features), rtol=0.0, hermitian=True
    )
    weight: Tensor = (inverse @ (centred.T @ (logits - mean_logits))).T
    bias = mean_logits - weight @ mean
    # What is smaller than this, relative to the largest singular value, is the rounding of the logits.
    rounding = max(weight.shape) * torch.finfo(torch.float32).eps
    inverse_weight: Tensor = torch.linalg.pinv(weight, rtol=rounding)
    return -inverse_weight @ bias

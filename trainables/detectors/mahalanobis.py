"""The Mahalanobis distance to the nearest class mean."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.detectors.contract import FEATURES, Detector


class Mahalanobis(Detector):
    """The squared Mahalanobis distance to the nearest class: min_c (f - mean_c)^T covariance^+ (f - mean_c).

    Source: Lee, Lee, Lee & Shin (2018, NeurIPS), "A simple unified framework for detecting
    out-of-distribution samples and adversarial attacks": the classes' means and one covariance for all,
    divided by the number of images, equation 1; the score, equation 2. It is applied to the features before
    the classifier alone, without their step on the inputs and without other layers, whose weights they
    fit to anomalies. Everything is computed in float64.

    The covariance is often singular: units that are 0 for every image, collinear units, fewer images than
    units. The paper does not treat this case. Here the pseudo-inverse leaves out the directions in which the
    training features vary by no more than their rounding to float32, so that a test image is not scored by
    them either; if each class has one image, all scores are 0. Others add a small multiple of the identity
    (pytorch-ood adds 1e-6 to the sum of squares and halves the distance), which gives those directions the
    largest weights of all.
    """

    name = "mahalanobis"
    label = "Mahalanobis"
    needs = FEATURES

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Compute means, (classes, D), and precision, (D, D), from features (n, D) and labels (n,)."""
        count, dimensions = features.shape
        scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=features.device)
        means = []
        for label in labels.unique():
            of_class = features[labels == label].double()
            means.append(of_class.mean(0))
            centred = of_class - means[-1]
            scatter += centred.T @ centred
        self.means = torch.stack(means)
        self.precision = torch.linalg.pinv(
            scatter / count, atol=rounding_variance(features), rtol=0.0, hermitian=True
        )

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the scores, float64 (n,), of features (n, D)."""
        nearest = torch.full((len(features),), torch.inf, dtype=torch.float64, device=features.device)
        for mean in self.means:
            centred = features.double() - mean
            nearest = torch.minimum(nearest, ((centred @ self.precision) * centred).sum(1))
        return nearest


def rounding_variance(features: Tensor) -> float:
    """Return a bound on the variance, in any direction, that rounding to float32 gives features (n, D)."""
    error = torch.finfo(torch.float32).eps * features.abs().max().item()
    return features.shape[1] * error**2

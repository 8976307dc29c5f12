"""The distance to the k-th nearest training image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.detectors.contract import FEATURES, Detector

DISTANCES_PER_BLOCK = 2**24
"""Distances held at once: 128 MiB."""


class KNN(Detector):
    """The Euclidean distance from the unit-length feature to the k-th nearest unit-length training feature.

    Source: Sun, Ming, Zhu & Li (2022, ICML), "Out-of-distribution detection with deep nearest neighbors",
    section 3 and algorithm 1. k is 50, their choice for CIFAR-10 (200 for 100 classes, 1,000 for 1,000), or
    the number of training images if there are fewer. All training images are searched, exactly and in
    float64.

    Features of norm below 1e-12 are divided by 1e-12 instead of their norm, so that zero features stay zero:
    they have distance 1 to all others and 0 to each other. The paper divides by the norm; pytorch-ood does as
    here.
    """

    name = "knn"
    label = "KNN"
    needs = FEATURES
    k = 50

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep the training features (n, D), scaled to unit length."""
        self.neighbours = F.normalize(features.double(), eps=1e-12)
        self.squared_norms = self.neighbours.square().sum(1)

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the scores, float64 (n,), of features (n, D), block by block."""
        block = max(1, DISTANCES_PER_BLOCK // len(self.neighbours))
        queries = F.normalize(features.double(), eps=1e-12)
        return torch.cat([self._kth_distance(part) for part in queries.split(block)])

    def _kth_distance(self, queries: Tensor) -> Tensor:
        # Squared distances less the query's own square, as a matrix product. They are off by 1e-16, whose
        # root is 1e-8, so they only choose the neighbour.
        order = torch.addmm(self.squared_norms, queries, self.neighbours.T, alpha=-2)
        kth = order.kthvalue(min(self.k, len(self.neighbours)), 1).indices
        distances: Tensor = torch.linalg.vector_norm(queries - self.neighbours[kth], dim=1)
        return distances

"""Images as a detector sees them: features and logits of a linear classifier, for the tests of detectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """Training and test images of K classes, float32, and the classifier: W (K, D), b (K,)."""

    training: tuple[Tensor, Tensor, Tensor]
    features: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor


def blobs(
    per_class: int = 60, dimensions: int = 12, classes: int = 4, tests: int = 40, seed: int = 0
) -> Example:
    """Return correlated clusters around the classes' means, and a classifier that tells them apart."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    means = 3 * normal(classes, dimensions)
    mixing = torch.eye(dimensions) / 2 + normal(dimensions, dimensions) / 10
    labels = torch.arange(classes).repeat_interleave(per_class)
    features = means[labels] + normal(len(labels), dimensions) @ mixing
    seen = means[torch.arange(tests) % classes] + normal(tests, dimensions) @ mixing
    weight, bias = means / 2, 0.3 * normal(classes)
    return Example((features, features @ weight.T + bias, labels), seen, seen @ weight.T + bias, weight, bias)

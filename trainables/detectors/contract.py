"""The contract between the scoring pass and a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from trainables.recipe import Recipe

# Plans and command lines list detectors, which must not cost the import of torch.
if TYPE_CHECKING:
    from torch import Tensor

    from trainables.data.normalisation import Normalisation

LOGITS, FEATURES, NETWORK = "logits", "features", "network"
"""What a detector can need."""


class Detector(ABC):
    """A score of test images: the higher, the more anomalous. It changes no training.

    An instance is made for every cell, without arguments; `recipe` and `normalisation` (mean and standard
    deviation per channel) are set before it is used. What it needs decides what `score` is given, always on
    one device:

    - "logits": `score(logits)`, float64 (n, K) for K kept classes.
    - "features": `score(features, logits)`, float32 (n, D) and (n, K) in evaluation mode, after one call of
      `fit(features, logits, labels)` with the centre crops of the kept classes' training images, labels
      int64 (n,).
    - "network": `score(network, inputs, logits)`, batch by batch: normalised inputs (n, C, H, W), and their
      logits (n, K), float32, in evaluation mode. With `gradients` the logits carry the graph to the inputs.

    Each returns the scores, a floating-point (n,); the cell fails if they have another shape or are not
    finite.
    """

    name: str
    """The public name, which is also the column of the scores."""
    label: str
    """The name in tables; the public name unless the class gives one."""
    needs: str
    """LOGITS, FEATURES or NETWORK."""
    gradients: bool = False
    """Whether the logits that a detector on the network is given carry the graph to the inputs."""
    recipe: Recipe
    normalisation: Normalisation

    def __init_subclass__(cls) -> None:
        if "label" not in cls.__dict__ and hasattr(cls, "name"):
            cls.label = cls.name

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:  # noqa: B027  # optional
        """Learn from the training images, if the detector needs features."""

    @abstractmethod
    def score(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the scores, (n,), of what the detector needs."""

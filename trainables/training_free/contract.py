"""The contract of methods that train nothing.

Plans and command lines list and price them, which must not cost the import of torch: their files import it
inside the functions that compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from trainables.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

BLOCK_VALUES = 2**21
"""Number of pixel values that are converted to float64 at a time: 16 MiB."""

Chunks = Sequence["Tensor"]
"""Images, uint8 (n, H, W, C), in one or several consecutive tensors on the CPU."""


class TrainingFree(ABC):
    """A score of images, the higher, the more anomalous. An instance is made for every cell.

    Everything is computed on the CPU in float64, block by block.
    """

    name: str
    """The public name of the method, which is also the column of the scores."""
    about: str
    """What the score is, for captions."""

    def check_fits(self, recipe: Recipe) -> None:  # noqa: B027  # optional
        """Raise Mistake if the method cannot run at the recipe's image size."""

    def fit(self, images: Chunks) -> None:  # noqa: B027  # optional
        """Learn from the training images of the kept classes, if the method does."""

    @abstractmethod
    def score(self, images: Chunks) -> np.ndarray:
        """Return the scores, float64 (n,)."""

    @abstractmethod
    def flops(self, side: int, channels: int, fitted: int, scored: int) -> int:
        """Return the FLOPs of fitting and scoring these numbers of images of a side in pixels."""


def blocks(images: Iterable[Tensor], values_per_image: int) -> Iterator[Tensor]:
    """Yield the images in blocks of at most BLOCK_VALUES values, but at least one image."""
    for chunk in images:
        yield from chunk.split(max(1, BLOCK_VALUES // values_per_image))

"""Edge energy (paper, appendix C): images with few edges are anomalous."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.training_free.contract import Chunks, TrainingFree, blocks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey image (ITU-R BT.601)."""
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


class EdgeEnergy(TrainingFree):
    """Minus the sum of squared Sobel gradients of the grey image in 0..1.

    The border is reflected without repeating the edge. There is nothing to fit.
    """

    name = "edge-energy"
    about = "minus the sum of squared Sobel gradients of the grey image"

    def score(self, images: Chunks) -> np.ndarray:
        """Return minus the energies of the edges, float64 (n,)."""
        import torch
        import torch.nn.functional as F

        across = torch.tensor(SOBEL, dtype=torch.float64)
        kernels = torch.stack([across, across.T])[:, None]
        found = []
        for block in blocks(images, images[0].shape[1] * images[0].shape[2]):
            padded = F.pad(_grey(block)[:, None], (1, 1, 1, 1), mode="reflect")
            found.append(-F.conv2d(padded, kernels).square().sum((1, 2, 3)))
        scores: np.ndarray = torch.cat(found).numpy()
        return scores

    def flops(self, side: int, channels: int, fitted: int, scored: int) -> int:
        """Count, per pixel, the grey value, two filters of nine taps, and the squares' sum."""
        return scored * side**2 * (2 * channels + 2 * 2 * 9 + 4)


def _grey(images: Tensor) -> Tensor:
    """Return grey images in 0..1, float64 (n, H, W)."""
    import torch

    values = images.double() / 255
    return values[..., 0] if values.shape[3] == 1 else values @ torch.tensor(GREY, dtype=torch.float64)

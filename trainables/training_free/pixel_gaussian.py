"""Pixel Gaussians (paper, appendix C): a Gaussian with a full covariance for each colour channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.training_free.contract import Chunks, TrainingFree, blocks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LARGEST_SIDE = 96
"""Largest side in pixels for which Gaussians are fitted: their matrices then take 0.6 GiB each."""
NOISE_VARIANCE = (1 / 256) ** 2 / 12
"""Variance of the dequantisation noise, uniform over 1/256 of pixels scaled to 0..1 (authors' code).

It is added analytically: a pixel's noise is independent of everything else, so it adds to the covariance's
diagonal. Scored images have no noise; it would shift the mean of all their scores equally.
"""


class PixelGaussians(TrainingFree):
    """Minus the log-likelihood of the image, summed over the channels' Gaussians."""

    name = "pixel-gaussian"
    about = (
        "minus the log-likelihood, summed over one full-covariance Gaussian per colour channel, fitted to "
        "the training images of the kept classes"
    )

    def check_fits(self, recipe: Recipe) -> None:
        """Raise Mistake for images whose covariance would not fit into memory."""
        side = recipe.image_size
        if side > LARGEST_SIDE:
            raise Mistake(
                f"Pixel Gaussians at {side}x{side} would take {8 * side**4 / 2**30:.0f} GiB per matrix: "
                f"choose a side of at most {LARGEST_SIDE}, such as --set image_size=32."
            )

    def fit(self, images: Chunks) -> None:
        """Fit a Gaussian to each channel."""
        self._channels = [PixelGaussian.fit(images, c) for c in range(images[0].shape[3])]

    def score(self, images: Chunks) -> np.ndarray:
        """Return minus the log-likelihoods, float64 (n,)."""
        import numpy as np

        scores = np.zeros(sum(len(chunk) for chunk in images))
        for channel, gaussian in enumerate(self._channels):
            scores -= gaussian.log_likelihood(images, channel)
        return scores

    def flops(self, side: int, channels: int, fitted: int, scored: int) -> int:
        """Count, per channel, the products of pixels, a Cholesky factor, and a triangular solve per image."""
        d = side**2
        return channels * (2 * fitted * d**2 + d**3 // 3 + scored * d**2)


@dataclass(frozen=True)
class PixelGaussian:
    """A Gaussian over the d pixels of one channel, scaled to 0..1.

    `mean` is float64 (d,), `factor` the lower Cholesky factor of the covariance, float64 (d, d).
    """

    mean: Tensor
    factor: Tensor

    @staticmethod
    def fit(images: Chunks, channel: int) -> PixelGaussian:
        """Fit by maximum likelihood to dequantised pixels; raise ValueError if there is no image.

        The sums of pixels in 0..255 and of their products are whole numbers below 2**53, so they are exact
        and do not depend on the order of the images.
        """
        import torch

        count = sum(len(chunk) for chunk in images)
        if count < 1:
            raise ValueError("a Gaussian needs at least one image")
        d = images[0].shape[1] * images[0].shape[2]
        sums = torch.zeros(d, dtype=torch.float64)
        products = torch.zeros((d, d), dtype=torch.float64)
        for block in blocks(images, d):
            values = _pixels(block, channel)
            sums += values.sum(0)
            products.addmm_(values.T, values)
        mean = sums / count
        covariance = products.div_(count)
        covariance.addmm_(mean[:, None], mean[None], alpha=-1)
        covariance /= 255**2
        covariance.diagonal().add_(NOISE_VARIANCE)
        return PixelGaussian(mean / 255, torch.linalg.cholesky(covariance))

    def log_likelihood(self, images: Chunks, channel: int) -> np.ndarray:
        """Return the natural logarithm of the densities of one channel of the images, float64 (n,)."""
        import torch

        d = len(self.mean)
        constant = self.factor.diagonal().log().sum() + d / 2 * math.log(2 * math.pi)
        found = []
        for block in blocks(images, d):
            centred = _pixels(block, channel) / 255 - self.mean
            white = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
            found.append(-white.square().sum(0) / 2 - constant)
        densities: np.ndarray = torch.cat(found).numpy()
        return densities


def _pixels(images: Tensor, channel: int) -> Tensor:
    """Return one channel's pixels in 0..255, float64 (n, d)."""
    return images[..., channel].flatten(1).double()

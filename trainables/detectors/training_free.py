"""Detectors that train no network (paper, appendix C): pixel Gaussians and edge energy.

Higher scores are more anomalous. Everything is computed on the CPU in float64, block by block. Images are
uint8 (n, H, W, C); several tensors of them may stand for one after another, as the chunks of an ImageTable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.data.image_table import ImageTable

NOISE_VARIANCE = (1 / 256) ** 2 / 12
"""Variance of the dequantisation noise, uniform over 1/256 of pixels scaled to 0..1 (authors' code).

It enters analytically: the noise of one pixel is independent of all else, so it adds to the diagonal of the
covariance. Scored images bear none; that would shift the mean of all their scores alike.
"""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey image (ITU-R BT.601)."""
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
BLOCK_VALUES = 2**21
"""Pixel values that are turned into float64 at a time: 16 MiB."""

Chunks = Sequence[Tensor]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Moments:
    """Count, sum (d,) and sum of outer products (d, d) of one channel's pixels in 0..255, float64.

    They are whole numbers below 2**53, so they are exact, and so is taking some images out again.
    """

    count: int
    sums: Tensor
    products: Tensor

    @staticmethod
    def of(images: Chunks, channel: int) -> Moments:
        """The moments of one colour channel of all these images."""
        d = images[0].shape[1] * images[0].shape[2]
        sums = torch.zeros(d, dtype=torch.float64)
        products = torch.zeros((d, d), dtype=torch.float64)
        for block in _blocks(images, d):
            values = _pixels(block, channel)
            sums += values.sum(0)
            products.addmm_(values.T, values)
        return Moments(sum(len(chunk) for chunk in images), sums, products)

    def without(self, others: Moments) -> Moments:
        """The moments of the images that are left when others, which must be among them, are taken out."""
        return Moments(self.count - others.count, self.sums - others.sums, self.products - others.products)


@dataclass(frozen=True)
class PixelGaussian:
    """A Gaussian over the d pixels of one channel, scaled to 0..1.

    `mean` is float64 (d,), `factor` the lower Cholesky factor of the covariance, float64 (d, d).
    """

    mean: Tensor
    factor: Tensor

    @staticmethod
    def fit(moments: Moments) -> PixelGaussian:
        """Maximum likelihood for dequantised pixels; ValueError where there is no image."""
        if moments.count < 1:
            raise ValueError("a Gaussian needs at least one image")
        mean = moments.sums / moments.count
        covariance = moments.products / moments.count
        covariance.addmm_(mean[:, None], mean[None], alpha=-1)
        covariance /= 255**2
        covariance.diagonal().add_(NOISE_VARIANCE)
        return PixelGaussian(mean / 255, torch.linalg.cholesky(covariance))

    def log_likelihood(self, images: Chunks, channel: int) -> np.ndarray:
        """Log-densities of one channel of the images, natural logarithm, float64 (n,)."""
        d = len(self.mean)
        constant = self.factor.diagonal().log().sum() + d / 2 * np.log(2 * np.pi)
        found = []
        for block in _blocks(images, d):
            centred = _pixels(block, channel) / 255 - self.mean
            white = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
            found.append(-white.square().sum(0) / 2 - constant)
        return torch.cat(found).numpy()


def pixel_gaussian_by_holdout(
    train: ImageTable, test: ImageTable, holdouts: Sequence[str], told: Told = lambda _: None
) -> dict[str, np.ndarray]:
    """Scores of the test images, float64 (n,), by held-out class: fitted to the kept classes alone.

    A class's exact moments are taken out of those of all, which leaves what the kept classes give to the
    bit, at the price of one pass over all the classes instead of one a held-out class. `train` holds all
    classes, each as a chunk of its own; `told` is told what is being done.
    """
    scores = {holdout: np.zeros(len(test)) for holdout in holdouts}
    for channel in range(train.channels):
        told(f"Pixels of channel {channel + 1} of {train.channels}")
        whole = Moments.of(train.chunks, channel)
        for holdout in holdouts:
            told(f"Without {holdout}, channel {channel + 1} of {train.channels}")
            own = train.chunks[train.classes.index(holdout)]
            gaussian = PixelGaussian.fit(whole.without(Moments.of([own], channel)))
            scores[holdout] -= gaussian.log_likelihood(test.chunks, channel)
    return scores


def pixel_gaussian(
    train: ImageTable, scored: Sequence[Chunks], told: Told = lambda _: None
) -> list[np.ndarray]:
    """Scores of several sets of images, float64 (n,) each, by Gaussians fitted to all of `train`."""
    scores = [np.zeros(sum(len(chunk) for chunk in images)) for images in scored]
    for channel in range(train.channels):
        told(f"Pixels of channel {channel + 1} of {train.channels}")
        gaussian = PixelGaussian.fit(Moments.of(train.chunks, channel))
        for found, images in zip(scores, scored, strict=True):
            found -= gaussian.log_likelihood(images, channel)
    return scores


def edge_energy(images: Chunks) -> np.ndarray:
    """Minus the sum of squared Sobel gradients of the grey images in 0..1, float64 (n,).

    The border is reflected without repeating the edge: few edges are anomalous (paper, appendix C).
    """
    across = torch.tensor(SOBEL, dtype=torch.float64)
    kernels = torch.stack([across, across.T])[:, None]
    found = []
    for block in _blocks(images, images[0].shape[1] * images[0].shape[2]):
        padded = F.pad(_grey(block)[:, None], (1, 1, 1, 1), mode="reflect")
        found.append(-F.conv2d(padded, kernels).square().sum((1, 2, 3)))
    return torch.cat(found).numpy()


def _grey(images: Tensor) -> Tensor:
    """Grey images in 0..1, float64 (n, H, W)."""
    values = images.double() / 255
    return values[..., 0] if values.shape[3] == 1 else values @ torch.tensor(GREY, dtype=torch.float64)


def _pixels(images: Tensor, channel: int) -> Tensor:
    """One channel's pixels in 0..255, float64 (n, d)."""
    return images[..., channel].flatten(1).double()


def _blocks(images: Iterable[Tensor], values_each: int) -> Iterator[Tensor]:
    """The images, a few at a time, `values_each` values of each being worked on."""
    for chunk in images:
        yield from chunk.split(max(1, BLOCK_VALUES // values_each))

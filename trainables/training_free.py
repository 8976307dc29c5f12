"""Detectors without training (paper, appendix C): pixel Gaussians and edge energy.

Higher scores are more anomalous. Everything is computed on the CPU in float64, block by block. Images are
uint8 (n, H, W, C) in one or several consecutive tensors, such as the chunks of an ImageTable.
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

It is added analytically: a pixel's noise is independent of everything else, so it adds to the covariance's
diagonal. Scored images have no noise; it would shift the mean of all their scores equally.
"""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey image (ITU-R BT.601)."""
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
BLOCK_VALUES = 2**21
"""Number of pixel values that are converted to float64 at a time: 16 MiB."""

Chunks = Sequence[Tensor]
Notify = Callable[[str], None]
"""A function that is told what is being computed."""


@dataclass(frozen=True)
class Moments:
    """Count, sum (d,) and sum of outer products (d, d) of one channel's pixels in 0..255, float64.

    They are whole numbers below 2**53, so they are exact, and so is the subtraction of some images.
    """

    count: int
    sums: Tensor
    products: Tensor

    @staticmethod
    def of(images: Chunks, channel: int) -> Moments:
        """Return the moments of one colour channel of these images."""
        d = images[0].shape[1] * images[0].shape[2]
        sums = torch.zeros(d, dtype=torch.float64)
        products = torch.zeros((d, d), dtype=torch.float64)
        for block in _blocks(images, d):
            values = _pixels(block, channel)
            sums += values.sum(0)
            products.addmm_(values.T, values)
        return Moments(sum(len(chunk) for chunk in images), sums, products)

    def without(self, others: Moments) -> Moments:
        """Return the moments without some of the images."""
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
        """Fit by maximum likelihood to dequantised pixels; raise ValueError if there is no image."""
        if moments.count < 1:
            raise ValueError("a Gaussian needs at least one image")
        mean = moments.sums / moments.count
        covariance = moments.products / moments.count
        covariance.addmm_(mean[:, None], mean[None], alpha=-1)
        covariance /= 255**2
        covariance.diagonal().add_(NOISE_VARIANCE)
        return PixelGaussian(mean / 255, torch.linalg.cholesky(covariance))

    def log_likelihood(self, images: Chunks, channel: int) -> np.ndarray:
        """Return the natural logarithm of the densities of one channel of the images, float64 (n,)."""
        d = len(self.mean)
        constant = self.factor.diagonal().log().sum() + d / 2 * np.log(2 * np.pi)
        found = []
        for block in _blocks(images, d):
            centred = _pixels(block, channel) / 255 - self.mean
            white = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
            found.append(-white.square().sum(0) / 2 - constant)
        return torch.cat(found).numpy()


def pixel_gaussian_by_holdout(
    train: ImageTable, test: ImageTable, holdouts: Sequence[str], notify: Notify = lambda _: None
) -> dict[str, np.ndarray]:
    """Return the test images' scores, float64 (n,), by held-out class, with a fit to the kept classes only.

    `train` has all classes, each as a separate chunk. A class's exact moments are subtracted from those of
    all classes, which gives the kept classes' moments to the bit. This takes one pass over all classes
    instead of one per held-out class.
    """
    scores = {holdout: np.zeros(len(test)) for holdout in holdouts}
    for channel in range(train.channels):
        notify(f"Pixels of channel {channel + 1} of {train.channels}")
        whole = Moments.of(train.chunks, channel)
        for holdout in holdouts:
            notify(f"Without {holdout}, channel {channel + 1} of {train.channels}")
            own = train.chunks[train.classes.index(holdout)]
            gaussian = PixelGaussian.fit(whole.without(Moments.of([own], channel)))
            scores[holdout] -= gaussian.log_likelihood(test.chunks, channel)
    return scores


def pixel_gaussian(
    train: ImageTable, scored: Sequence[Chunks], notify: Notify = lambda _: None
) -> list[np.ndarray]:
    """Return the scores of several sets of images, float64 (n,) each, with Gaussians fitted to `train`."""
    scores = [np.zeros(sum(len(chunk) for chunk in images)) for images in scored]
    for channel in range(train.channels):
        notify(f"Pixels of channel {channel + 1} of {train.channels}")
        gaussian = PixelGaussian.fit(Moments.of(train.chunks, channel))
        for found, images in zip(scores, scored, strict=True):
            found -= gaussian.log_likelihood(images, channel)
    return scores


def edge_energy(images: Chunks) -> np.ndarray:
    """Return minus the sum of squared Sobel gradients of the grey images in 0..1, float64 (n,).

    Few edges are anomalous (paper, appendix C). The border is reflected without repeating the edge.
    """
    across = torch.tensor(SOBEL, dtype=torch.float64)
    kernels = torch.stack([across, across.T])[:, None]
    found = []
    for block in _blocks(images, images[0].shape[1] * images[0].shape[2]):
        padded = F.pad(_grey(block)[:, None], (1, 1, 1, 1), mode="reflect")
        found.append(-F.conv2d(padded, kernels).square().sum((1, 2, 3)))
    return torch.cat(found).numpy()


def _grey(images: Tensor) -> Tensor:
    """Return grey images in 0..1, float64 (n, H, W)."""
    values = images.double() / 255
    return values[..., 0] if values.shape[3] == 1 else values @ torch.tensor(GREY, dtype=torch.float64)


def _pixels(images: Tensor, channel: int) -> Tensor:
    """Return one channel's pixels in 0..255, float64 (n, d)."""
    return images[..., channel].flatten(1).double()


def _blocks(images: Iterable[Tensor], values_per_image: int) -> Iterator[Tensor]:
    """Yield the images in blocks of at most BLOCK_VALUES values, but at least one image."""
    for chunk in images:
        yield from chunk.split(max(1, BLOCK_VALUES // values_per_image))

"""Pixel Gaussians compared with scipy's densities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from tests.trainables.training_free.examples import SIDE, TEST, TRAIN, images, whole
from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.training_free import TRAINING_FREE, contract
from trainables.training_free.pixel_gaussian import PixelGaussian, PixelGaussians


def log_density(fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Return scipy's log-density of flat pixels: maximum likelihood, noise of 1/256 on the diagonal."""
    x = fitted.reshape(len(fitted), -1) / 255
    covariance = np.cov(x, rowvar=False, bias=True) + np.eye(x.shape[1]) / 256**2 / 12
    return multivariate_normal(x.mean(0), covariance).logpdf(scored.reshape(len(scored), -1) / 255)


def scores(fitted: list[torch.Tensor], scored: list[torch.Tensor]) -> np.ndarray:
    method = PixelGaussians()
    method.fit(fitted)
    return method.score(scored)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_s_log_likelihood_is_scipy_s(channel: int) -> None:
    gaussian = PixelGaussian.fit(TRAIN, channel)
    expected = log_density(whole(TRAIN)[..., channel], whole(TEST)[..., channel])
    np.testing.assert_allclose(gaussian.log_likelihood(TEST, channel), expected, rtol=1e-9)


def test_scores_sum_the_channels() -> None:
    assert TRAINING_FREE.find("pixel-gaussian") is PixelGaussians
    expected = -sum(log_density(whole(TRAIN)[..., c], whole(TEST)[..., c]) for c in range(3))
    np.testing.assert_allclose(scores(TRAIN, TEST), expected, rtol=1e-9)


def test_the_order_of_the_fitted_images_changes_no_bit() -> None:
    assert np.array_equal(scores(TRAIN, TEST), scores([torch.cat(TRAIN).flip(0)], TEST))


def test_grey_images_and_constant_pixels_can_be_fitted() -> None:
    pixels = [torch.from_numpy(images(i, 6, channels=1)) for i in range(2)]
    for each in pixels:
        each[:, 0] = 7  # and fewer images than pixels
    np.testing.assert_allclose(scores(pixels, pixels), -log_density(whole(pixels), whole(pixels)), rtol=1e-7)


def test_a_gaussian_needs_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        PixelGaussian.fit([TRAIN[0][:0]], 0)


def test_large_images_are_refused() -> None:
    PixelGaussians().check_fits(Recipe(image_size=96))
    with pytest.raises(Mistake, match="19 GiB per matrix"):
        PixelGaussians().check_fits(Recipe(image_size=224))


def test_scores_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scores(TRAIN, TEST)
    monkeypatch.setattr(contract, "BLOCK_VALUES", 3 * SIDE * SIDE)
    np.testing.assert_allclose(scores(TRAIN, TEST), expected, rtol=1e-12)


def test_the_cost_is_that_of_two_matrix_products_and_a_factor_a_channel() -> None:
    d = 8 * 8
    assert PixelGaussians().flops(8, 3, 100, 50) == 3 * (2 * 100 * d * d + d**3 // 3 + 50 * d * d)

"""Pixel Gaussians and edge energy compared with scipy's densities and filters, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from scipy.stats import multivariate_normal

from trainables import training_free
from trainables.data.image_table import ImageTable
from trainables.training_free import (
    Moments,
    PixelGaussian,
    edge_energy,
    pixel_gaussian,
    pixel_gaussian_by_holdout,
)

SIDE = 5


def images(seed: int, count: int, channels: int = 3) -> np.ndarray:
    """Return images with correlated pixels, and a different mean for each class (seed)."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, SIDE * SIDE * channels)) @ np.random.default_rng(99).normal(
        size=(SIDE * SIDE * channels, SIDE * SIDE * channels)
    )
    pixels = random.integers(90, 160) + 5 * mixed
    return np.clip(pixels, 0, 255).round().astype(np.uint8).reshape(count, SIDE, SIDE, channels)


def table(split: str, counts: dict[str, int], start: int, channels: int = 3) -> ImageTable:
    arrays = {name: images(start + i, count, channels) for i, (name, count) in enumerate(counts.items())}
    return ImageTable.from_arrays(split, arrays)


TRAIN = table("train", {"ant": 40, "bee": 50, "cow": 30}, 1)
TEST = table("test", {"ant": 7, "bee": 6, "cow": 8}, 11)


def whole(chunks: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([chunk.numpy() for chunk in chunks])


def log_density(fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Return scipy's log-density of flat pixels: maximum likelihood, noise of 1/256 on the diagonal."""
    x = fitted.reshape(len(fitted), -1) / 255
    covariance = np.cov(x, rowvar=False, bias=True) + np.eye(x.shape[1]) / 256**2 / 12
    return multivariate_normal(x.mean(0), covariance).logpdf(scored.reshape(len(scored), -1) / 255)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_s_log_likelihood_is_scipy_s(channel: int) -> None:
    gaussian = PixelGaussian.fit(Moments.of(TRAIN.chunks, channel))
    expected = log_density(whole(TRAIN.chunks)[..., channel], whole(TEST.chunks)[..., channel])
    np.testing.assert_allclose(gaussian.log_likelihood(TEST.chunks, channel), expected, rtol=1e-9)


def test_scores_by_held_out_class_sum_the_channels_of_the_kept_classes() -> None:
    found = pixel_gaussian_by_holdout(TRAIN, TEST, ["bee", "cow"])
    assert list(found) == ["bee", "cow"]
    scored = whole(TEST.chunks)
    for holdout, scores in found.items():
        kept = whole([c for c, name in zip(TRAIN.chunks, TRAIN.classes, strict=True) if name != holdout])
        expected = -sum(log_density(kept[..., c], scored[..., c]) for c in range(3))
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_scores_do_not_depend_on_the_held_out_class() -> None:
    others = {name: chunk.numpy() for name, chunk in zip(TRAIN.classes, TRAIN.chunks, strict=True)}
    others["bee"] = images(77, 9)
    changed = pixel_gaussian_by_holdout(ImageTable.from_arrays("train", others), TEST, ["bee"])["bee"]
    assert np.array_equal(changed, pixel_gaussian_by_holdout(TRAIN, TEST, ["bee"])["bee"])


def test_scores_of_several_sets_come_from_all_training_images() -> None:
    own, other = pixel_gaussian(TRAIN, [TEST.chunks, [torch.from_numpy(images(50, 4))]])
    fitted = whole(TRAIN.chunks)
    for scores, scored in ((own, whole(TEST.chunks)), (other, images(50, 4))):
        expected = -sum(log_density(fitted[..., c], scored[..., c]) for c in range(3))
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_grey_images_and_constant_pixels_can_be_fitted() -> None:
    arrays = {name: images(i, 6, channels=1) for i, name in enumerate(("ant", "bee"))}
    for pixels in arrays.values():
        pixels[:, 0] = 7  # and fewer images than pixels
    train = ImageTable.from_arrays("train", arrays)
    (scores,) = pixel_gaussian(train, [train.chunks])
    expected = -log_density(whole(train.chunks), whole(train.chunks))
    np.testing.assert_allclose(scores, expected, rtol=1e-7)


def test_a_gaussian_needs_images() -> None:
    moments = Moments.of(TRAIN.chunks, 0)
    with pytest.raises(ValueError, match="at least one image"):
        PixelGaussian.fit(moments.without(moments))


@pytest.mark.parametrize("channels", [1, 3])
def test_edge_energy_is_that_of_scipy_s_sobel_image_by_image(channels: int) -> None:
    chunks = table("test", {"ant": 7, "bee": 6}, 11, channels).chunks
    grey = whole(chunks) / 255
    grey = grey[..., 0] if channels == 1 else grey @ np.array([0.299, 0.587, 0.114])
    expected = [-sum((sobel(image, axis, mode="mirror") ** 2).sum() for axis in (0, 1)) for image in grey]
    np.testing.assert_allclose(edge_energy(chunks), expected, rtol=1e-12)


def test_edge_energy_of_an_image_does_not_depend_on_its_neighbours() -> None:
    pixels = torch.from_numpy(images(3, 5))
    alone = [edge_energy([pixels[i : i + 1]])[0] for i in range(5)]
    np.testing.assert_allclose(edge_energy([pixels]), alone, rtol=1e-12)


def test_few_edges_score_higher_than_many() -> None:
    flat = torch.full((1, 8, 8, 3), 90, dtype=torch.uint8)
    striped = flat.clone()
    striped[:, :, ::2] = 200
    low, high = edge_energy([torch.cat([striped, flat])])
    assert low < high
    assert high == pytest.approx(0, abs=1e-20)


def test_scores_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    gaussian, edges = pixel_gaussian(TRAIN, [TEST.chunks])[0], edge_energy(TEST.chunks)
    monkeypatch.setattr(training_free, "BLOCK_VALUES", 3 * SIDE * SIDE)
    np.testing.assert_allclose(pixel_gaussian(TRAIN, [TEST.chunks])[0], gaussian, rtol=1e-12)
    np.testing.assert_allclose(edge_energy(TEST.chunks), edges, rtol=1e-12)

"""Vectorised views compared with numpy, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.data.augment import (
    Views,
    center_crop,
    draw_views,
    mask_geometry,
    mask_squares,
    padding,
    random_crop,
)
from trainables.data.normalisation import Normalisation
from trainables.recipe import Recipe


@pytest.mark.parametrize(
    "recipe",
    [Recipe(image_size=32), Recipe(image_size=8), Recipe(image_size=24, stored_size=32, crop_padding=0.0)],
)
def test_crops_are_numpy_s_reflected_crops(recipe: Recipe) -> None:
    side, pad = recipe.prepared_size, padding(recipe)
    images = torch.randint(
        0, 256, (64, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    views = draw_views(64, recipe, torch.Generator().manual_seed(1))
    assert views.flips.any()
    assert not views.flips.all()
    cropped = random_crop(images, views, recipe).numpy()
    for image, (row, col), flip, found in zip(
        images.numpy(), views.corners.numpy(), views.flips.numpy(), cropped, strict=True
    ):
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        expected = padded[row : row + recipe.image_size, col : col + recipe.image_size]
        np.testing.assert_array_equal(found, expected[:, ::-1] if flip else expected)


def test_corners_and_reflections_are_uniform() -> None:
    views = draw_views(20_000, Recipe(image_size=32), torch.Generator().manual_seed(0))
    counts = torch.bincount(views.corners[:, 0], minlength=9)
    assert len(counts) == 9
    # 9 places, 8 degrees of freedom: chi-square above 26.1 has a probability of 0.001
    assert ((counts - 20_000 / 9) ** 2 / (20_000 / 9)).sum() < 26.1
    assert views.flips.double().mean().item() == pytest.approx(0.5, abs=0.012)  # 3.3 standard errors
    still = draw_views(100, Recipe(image_size=32, flip=False), torch.Generator().manual_seed(0))
    assert not still.flips.any()


def test_masks_lie_in_the_central_region_at_uniform_places() -> None:
    assert mask_geometry(32) == (16, 5, 21)
    views = draw_views(10_000, Recipe(image_size=32), torch.Generator().manual_seed(0), center_mask=True)
    assert views.masks is not None
    assert views.masks.min() == 5
    assert views.masks.max() == 5 + 21 - 16
    counts = torch.bincount((views.masks[:, 0] - 5) * 6 + views.masks[:, 1] - 5, minlength=36)
    # 36 places, 35 degrees of freedom: chi-square above 66.6 has a probability of 0.001
    assert ((counts - 10_000 / 36) ** 2 / (10_000 / 36)).sum() < 66.6


def test_a_mask_sets_its_square_to_the_mean_and_nothing_else() -> None:
    inputs = torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    views = draw_views(50, Recipe(image_size=32), torch.Generator().manual_seed(1), center_mask=True)
    masked = mask_squares(inputs, views)
    assert views.masks is not None
    for before, after, (row, col) in zip(inputs, masked, views.masks.tolist(), strict=True):
        expected = before.clone()
        expected[:, row : row + 16, col : col + 16] = 0
        assert torch.equal(after, expected)
    assert mask_squares(inputs, Views(views.corners, views.flips)) is inputs


def test_normalised_images_are_centred_crops_in_units_of_deviations() -> None:
    images = torch.randint(0, 256, (5, 10, 10, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    found = Normalisation(mean, std)(center_crop(images, 6))
    expected = (images[:, 2:8, 2:8].numpy() / 255 - mean.numpy()) / std.numpy()
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)

"""Edge energy compared with scipy's filter, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel

from tests.trainables.training_free.examples import SIDE, TEST, chunks, images, whole
from trainables.training_free import TRAINING_FREE, contract


def edge_energy(scored: list[torch.Tensor]) -> np.ndarray:
    return TRAINING_FREE.find("edge-energy")().score(scored)


@pytest.mark.parametrize("channels", [1, 3])
def test_edge_energy_is_that_of_scipy_s_sobel_image_by_image(channels: int) -> None:
    scored = chunks((7, 6), 11, channels)
    grey = whole(scored) / 255
    grey = grey[..., 0] if channels == 1 else grey @ np.array([0.299, 0.587, 0.114])
    expected = [-sum((sobel(image, axis, mode="mirror") ** 2).sum() for axis in (0, 1)) for image in grey]
    np.testing.assert_allclose(edge_energy(scored), expected, rtol=1e-12)


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
    expected = edge_energy(TEST)
    monkeypatch.setattr(contract, "BLOCK_VALUES", 3 * SIDE * SIDE)
    np.testing.assert_allclose(edge_energy(TEST), expected, rtol=1e-12)

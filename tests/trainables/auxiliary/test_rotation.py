"""Rotation's orientations compared with numpy's, and its cost with torch's count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import find_benchmark
from trainables.auxiliary import find_task
from trainables.auxiliary.modules.rotation import orient
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe

SMALL = Recipe(depth=10, width=1, image_size=16)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_rotation_shows_every_image_in_all_four_orientations() -> None:
    task = find_task("rotation", SMALL)
    draws = task.build(WideResNet(SMALL, 3, 5), SMALL).draw(torch.tensor([7, 3, 5]), generator())
    seen = set(zip(draws.rows.tolist(), draws.each["orientation"].tolist(), strict=True))
    assert seen == {(row, k) for row in (7, 3, 5) for k in range(4)}
    assert task.images_per_step(128) == 32


@pytest.mark.parametrize("transposes", [False, True])
def test_orientations_are_numpy_s(transposes: bool) -> None:
    images = torch.randint(0, 256, (8, 6, 6, 3), dtype=torch.uint8, generator=generator())
    orientation = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    turned = orient(images, orientation, transposes=transposes).numpy()
    flips: list[Callable] = [
        lambda x: x,
        lambda x: x[::-1],
        lambda x: x.transpose(1, 0, 2),
        lambda x: x[::-1].transpose(1, 0, 2),
    ]
    for image, k, found in zip(images.numpy(), orientation.tolist(), turned, strict=True):
        expected = flips[k](image) if transposes else np.rot90(image, k)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_rotation_s_flops_are_torch_s(channels: int) -> None:
    """A step has four examples of each of a quarter as many images, so one per image of the batch."""
    task, network = find_task("rotation", SMALL, channels), WideResNet(SMALL, channels, 5)
    head = task.build(network, SMALL)
    rows = torch.arange(task.images_per_step(16))
    draws = head.draw(rows, generator())
    images = torch.randint(0, 256, (4, 16, 16, channels), dtype=torch.uint8, generator=generator())
    normalise = Normalisation(torch.full((channels,), 0.5), torch.full((channels,), 0.25))
    with FlopCounterMode(display=False) as counter:
        head.loss(network, images[draws.rows], draws, normalise).backward()
    assert 16 * task.flops(SMALL) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("benchmark", "channels", "flops"),
    [
        ("cifar10", 3, 31459064832),
        ("imagenet-dog", 1, 67773732864),
        ("imagenet-dog", 3, 67831535616),
        ("image-folder", 3, 2423000064),
    ],
)
def test_rotation_s_flops_are_version_0_1_s(benchmark: str, channels: int, flops: int) -> None:
    """Plans of sweeps that exist keep their cost."""
    recipe = find_benchmark(benchmark).recipe
    assert find_task("rotation", recipe, channels).flops(recipe) == flops

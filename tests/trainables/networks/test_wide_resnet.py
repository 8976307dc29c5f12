"""Networks compared with published counts and torch's FLOP counter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.networks.flops import training_flops
from trainables.networks.wide_resnet import WideResNet, initialise, symmetric_pad
from trainables.recipe import Recipe

CIFAR = Recipe(depth=28, width=10, image_size=32)
STL = Recipe(depth=36, width=4, groups=4, image_size=96)
IMAGENET = Recipe(depth=36, width=4, groups=4, image_size=224, stem_pool=True)
CPC = Recipe(depth=36, width=4, groups=4, image_size=224, stem_stride=2, padding="symmetric")


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("classes", "expected"), [(10, 36_479_194), (9, 36_478_553)])
def test_wrn_28_10_has_the_published_number_of_parameters(classes: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(WideResNet(CIFAR, 3, classes)) == expected


@pytest.mark.parametrize(
    ("recipe", "gigaflops"),
    [(CIFAR, 31.5), (STL, 49.8), (IMAGENET, 67.8)],
    ids=["cifar10", "stl10", "imagenet"],
)
def test_flops_of_a_training_image(recipe: Recipe, gigaflops: float) -> None:
    with torch.device("meta"):
        network = WideResNet(recipe, 3, 10)
        images = torch.zeros(1, 3, recipe.image_size, recipe.image_size)
        with FlopCounterMode(display=False) as counter:
            network(images).sum().backward()
    assert counter.get_total_flops() == pytest.approx(gigaflops * 1e9, rel=0.01)
    assert training_flops(recipe, 3, 10) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("recipe", "channels"),
    [
        (Recipe(depth=10, width=1, image_size=8), 1),
        (Recipe(depth=16, width=2, image_size=33), 3),
        (Recipe(depth=16, width=2, stem="wide"), 3),
        (Recipe(depth=12, width=1, groups=4, image_size=30, stem_pool=True), 3),
        (Recipe(depth=12, width=1, groups=4, image_size=30, stem_pool=True, stem="wide"), 3),
        (CPC, 3),
    ],
)
def test_the_analytic_count_is_the_counter_s_for_any_recipe(recipe: Recipe, channels: int) -> None:
    with torch.device("meta"):
        network = WideResNet(recipe, channels, 7)
        images = torch.zeros(1, channels, recipe.image_size, recipe.image_size)
        with FlopCounterMode(display=False) as counter:
            network(images).sum().backward()
    assert training_flops(recipe, channels, 7) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("recipe", "side", "features"), [(CIFAR, 8, 640), (STL, 12, 256), (IMAGENET, 14, 256), (CPC, 14, 256)]
)
def test_output_shapes(recipe: Recipe, side: int, features: int) -> None:
    with torch.device("meta"):
        network = WideResNet(recipe, 3, 9)
        images = torch.zeros(2, 3, recipe.image_size, recipe.image_size)
        assert network.trunk(images).shape == (2, features, side, side)
        assert network.embed(images).shape == (2, features)
        assert network(images).shape == (2, 9)


@pytest.mark.parametrize("pad", [1, 2, 3])
def test_symmetric_padding_is_numpy_s(pad: int) -> None:
    images = torch.arange(2 * 3 * 5 * 6, dtype=torch.float32).reshape(2, 3, 5, 6)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    np.testing.assert_array_equal(symmetric_pad(images, pad).numpy(), expected)


def test_he_initialisation_has_the_stated_spread_and_repeats() -> None:
    networks = [WideResNet(Recipe(depth=16, width=4), 3, 10) for _ in range(2)]
    for network in networks:
        initialise(network, torch.Generator().manual_seed(7))
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)
    weight = networks[0].groups[2][0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.01)
    assert networks[0].classifier.bias.abs().max() == 0

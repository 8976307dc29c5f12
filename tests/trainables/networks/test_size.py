"""The size of a network's weights."""

from __future__ import annotations

import pytest

from search_spaces import all_benchmarks
from trainables.networks.size import weight_bytes
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(depth=10, width=1),
        Recipe(depth=16, width=2, stem="wide"),
        Recipe(depth=20, width=1, groups=4, stem="wide", stem_pool=True, image_size=64),
        Recipe(depth=28, width=3, groups=4),
    ],
    ids=str,
)
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 9)])
def test_the_bytes_are_those_of_the_network(recipe: Recipe, channels: int, classes: int) -> None:
    values = WideResNet(recipe, channels, classes).state_dict().values()
    assert weight_bytes(recipe, channels, classes) == sum(v.numel() * v.element_size() for v in values)


def test_the_paper_s_cifar10_network_has_36_million_weights() -> None:
    # Zagoruyko & Komodakis (2016), table 4: WRN-28-10 has 36.5 million parameters, for ten classes.
    recipe = all_benchmarks()["cifar10"].recipe
    assert weight_bytes(recipe, 3, 10) / 4 == pytest.approx(36.5e6, rel=0.002)

"""Floating-point operations of a run, counted from shapes alone: no torch, no data.

An addition and a multiplication count as two. Convolutions and linear layers are counted, as torch's own
counter does; the backward pass costs twice the forward one, but for the first convolution, whose input
needs no gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainables.networks.shapes import GRID, block_shapes, code_size, patch_geometry, stem_shape
from trainables.run import Recipe, parse_method


@dataclass(frozen=True)
class Work:
    """What a run processes: images an epoch it trains on, and images it validates on or scores each time."""

    training_images: int
    evaluated_images: int


def forward_flops(recipe: Recipe, channels: int, classes: int) -> tuple[int, int]:
    """(of the whole network, of its first convolution) for one image."""
    total, first = trunk_flops(recipe, channels, recipe.image_size)
    return total + 2 * block_shapes(recipe)[-1][-1][1] * classes, first


def trunk_flops(recipe: Recipe, channels: int, side: int, groups: int | None = None) -> tuple[int, int]:
    """(of the first convolution and the first `groups` groups, of the convolution) at a side in pixels."""
    width, kernel = stem_shape(recipe)
    side = math.ceil(side / recipe.stem_stride)
    first = _conv(channels, width, kernel, side)
    if recipe.stem_pool:
        side = side // 2 if recipe.variant == "published" else math.ceil(side / 2)
    total = first
    for group in block_shapes(recipe)[:groups]:
        for c_in, c_out, stride in group:
            side = math.ceil(side / stride)
            total += _conv(c_in, c_out, 3, side) + _conv(c_out, c_out, 3, side)
            total += _conv(c_in, c_out, 1, side) if stride != 1 or c_in != c_out else 0
    return total, first


def training_flops(recipe: Recipe, channels: int, classes: int) -> int:
    """Forward and backward for one image: the backward pass has a gradient for weights and one for inputs."""
    forward, first = forward_flops(recipe, channels, classes)
    return 3 * forward - first


def run_flops(recipe: Recipe, method: str, work: Work, channels: int, classes: int, *, search: bool) -> int:
    """All of a run: its epochs, with a step of each auxiliary task beside every step, and its evaluations.

    A search run validates (forward) after each epoch; a final run scores: forward, gradient for the input,
    forward again.
    """
    step_images = training_flops(recipe, channels, classes)
    auxiliary = sum(
        AUXILIARY_FLOPS[task](recipe, channels, classes) for task in parse_method(method).auxiliary
    )
    training = recipe.epochs * work.training_images * (step_images + auxiliary)
    forward, _ = forward_flops(recipe, channels, classes)
    if search:
        return int(training + recipe.epochs * work.evaluated_images * forward)
    return int(training + recipe.evaluation_count * work.evaluated_images * 3 * forward)


def _rotation(recipe: Recipe, channels: int, classes: int) -> float:
    """A rotation step has as many images as a classification step, and four classes."""
    return training_flops(recipe, channels, 4)


def _cpc(recipe: Recipe, channels: int, classes: int) -> float:
    """Both versions of 36 patches through three groups, and the context network on one of them."""
    size, width, places = code_size(recipe), recipe.cpc_channels, GRID * GRID
    trunk, first = trunk_flops(recipe, channels, patch_geometry(recipe.image_size).side, groups=3)
    # A 1x1, a block of a 3x3 and a 1x1, four blocks of two 1x1s, a 1x1; then a map for each distance.
    context = 2 * places * (size * width + (9 + 1 + 4 * 2 + 1) * width**2 + (GRID - 1) * width * size)
    image = 2 * places * (3 * trunk - first) + 3 * context
    return image * recipe.cpc_batch_size / recipe.batch_size


AUXILIARY_FLOPS = {"rotation": _rotation, "cpc": _cpc}
"""FLOPs of an auxiliary task for each image of the classification batch beside it."""


def _conv(c_in: int, c_out: int, kernel: int, side: int) -> int:
    return 2 * c_in * c_out * kernel * kernel * side * side

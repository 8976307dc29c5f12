"""Floating-point operations (FLOPs) of a run, counted from shapes alone, without torch or data.

A multiplication and an addition count as two. Convolutions and linear layers are counted, as torch's own
counter does. The backward pass costs twice the forward pass, except that of the first convolution, whose
input needs no gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainables.networks.shapes import GRID, block_shapes, code_size, patch_geometry, stem_shape
from trainables.recipe import Recipe
from trainables.run import parse_method


@dataclass(frozen=True)
class Work:
    """Images that a run trains on per epoch, and images that each of its evaluations validates or scores."""

    training_images: int
    evaluated_images: int


def forward_flops(recipe: Recipe, channels: int, classes: int) -> tuple[int, int]:
    """Return the FLOPs of the forward pass per image: of the network, and of its first convolution."""
    total, first = trunk_flops(recipe, channels, recipe.image_size)
    return total + 2 * block_shapes(recipe)[-1][-1][1] * classes, first


def trunk_flops(recipe: Recipe, channels: int, side: int, groups: int | None = None) -> tuple[int, int]:
    """Return the forward FLOPs per image of the first `groups` groups (None: all) and the first convolution.

    The first number includes the first convolution, the second is the first convolution's alone. `side` is
    the image's in pixels.
    """
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
    """Return the FLOPs of both passes per image; the backward pass has gradients of weights and of inputs."""
    forward, first = forward_flops(recipe, channels, classes)
    return 3 * forward - first


def run_flops(recipe: Recipe, method: str, work: Work, channels: int, classes: int, *, search: bool) -> int:
    """Return the FLOPs of a run: epochs, with a step of each auxiliary task per step, and evaluations.

    A search run validates after each epoch, with one forward pass per image. Scoring, in a final run, takes a
    forward pass, a gradient for the input and another forward pass.
    """
    classification = training_flops(recipe, channels, classes)
    auxiliary = sum(
        AUXILIARY_FLOPS[task](recipe, channels, classes) for task in parse_method(method).auxiliary
    )
    training = recipe.epochs * work.training_images * (classification + auxiliary)
    forward, _ = forward_flops(recipe, channels, classes)
    if search:
        return int(training + recipe.epochs * work.evaluated_images * forward)
    return int(training + recipe.evaluation_count * work.evaluated_images * 3 * forward)


def _rotation(recipe: Recipe, channels: int, classes: int) -> float:
    """Return the FLOPs of rotation: as many images as in a classification step, and four classes."""
    return training_flops(recipe, channels, 4)


def _cpc(recipe: Recipe, channels: int, classes: int) -> float:
    """Return the FLOPs of CPC: two versions of 36 patches in three groups, one in the context network."""
    size, width, places = code_size(recipe), recipe.cpc_channels, GRID * GRID
    trunk, first = trunk_flops(recipe, channels, patch_geometry(recipe.image_size).side, groups=3)
    # A 1x1, a block of a 3x3 and a 1x1, four blocks of two 1x1s, a 1x1; then one map per distance.
    context = 2 * places * (size * width + (9 + 1 + 4 * 2 + 1) * width**2 + (GRID - 1) * width * size)
    image = 2 * places * (3 * trunk - first) + 3 * context
    return image * recipe.cpc_batch_size / recipe.batch_size


AUXILIARY_FLOPS = {"rotation": _rotation, "cpc": _cpc}
"""FLOPs of an auxiliary task per image of the classification batch of the same step."""


def _conv(c_in: int, c_out: int, kernel: int, side: int) -> int:
    return 2 * c_in * c_out * kernel * kernel * side * side

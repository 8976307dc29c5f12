"""Floating-point operations (FLOPs) of a network, counted from shapes alone, without torch or data.

A multiplication and an addition count as two. Convolutions and linear layers are counted, as torch's own
counter does. The backward pass costs twice the forward pass, except that of the first convolution, whose
input needs no gradient.
"""

from __future__ import annotations

import math

from trainables.networks.shapes import block_shapes, stem_shape
from trainables.recipe import Recipe


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


def _conv(c_in: int, c_out: int, kernel: int, side: int) -> int:
    return 2 * c_in * c_out * kernel * kernel * side * side

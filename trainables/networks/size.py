"""The size of a network's weights, from its recipe alone and without torch."""

from __future__ import annotations

from trainables.networks.shapes import block_shapes, stem_shape
from trainables.recipe import Recipe

FLOAT, COUNTER = 4, 8
"""Bytes of a float32, and of the integer in which each batch norm counts its batches."""


def weight_bytes(recipe: Recipe, channels: int, classes: int) -> int:
    """Return the bytes of a network's weights and running statistics, without norms that tasks have alone."""
    width, kernel = stem_shape(recipe)
    floats = channels * width * kernel**2 + (width if recipe.variant == "wide" else 0)
    norms = []
    for group in block_shapes(recipe):
        for c_in, c_out, stride in group:
            floats += 9 * c_in * c_out + 9 * c_out * c_out
            floats += c_in * c_out if stride != 1 or c_in != c_out else 0
            norms += [c_in, c_out]
    features = block_shapes(recipe)[-1][-1][1]
    floats += features * classes + classes
    norms.append(features)
    return FLOAT * (floats + 4 * sum(norms)) + COUNTER * len(norms)  # scale, shift, mean and variance

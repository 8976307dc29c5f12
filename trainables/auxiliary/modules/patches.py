"""The grid of patches of contrastive predictive coding (CPC), without torch."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.networks.shapes import block_shapes
from trainables.recipe import Recipe

GRID = 6
"""CPC divides an image into GRID x GRID patches (paper, appendix B)."""
SIDES = 56
"""CPC's patches have whole pixels if the image's side is a multiple of this; the paper's side is 224."""
VERSIONS = 2
"""Each patch is distorted twice: once to be seen and predicted, and once as a negative."""
GROUPS = 3
"""Number of the trunk's groups that encode patches."""


def code_size(recipe: Recipe) -> int:
    """Return the number of output channels of the groups that encode patches, which is a code's size."""
    return block_shapes(recipe)[GROUPS - 1][-1][1]


@dataclass(frozen=True)
class Patches:
    """CPC's patches in pixels: their side and stride, the side of their random crops, and its padding."""

    side: int
    stride: int
    crop: int
    pad: int


def patch_geometry(image_size: int) -> Patches:
    """Return 64, 32, 56 and 4 for the paper's 224 pixels, and proportional values for multiples of 56."""
    unit = image_size // SIDES
    return Patches(side=16 * unit, stride=8 * unit, crop=14 * unit, pad=unit)

"""Contrastive predictive coding (CPC): telling a patch's code from another's (paper, appendix B).

An image is divided into a 6x6 grid of patches, which the trunk's first three groups encode; a context network
predicts the codes of lower rows from those of the rows above.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

from trainables.auxiliary.contract import AuxiliaryTask
from trainables.auxiliary.modules.patches import GRID, GROUPS, SIDES, VERSIONS, code_size, patch_geometry
from trainables.mistake import Mistake
from trainables.networks.flops import trunk_flops
from trainables.recipe import Recipe
from trainables.spaces import Grid

if TYPE_CHECKING:
    from trainables.auxiliary.modules.cpc import CPCModule
    from trainables.networks.wide_resnet import WideResNet


class CPC(AuxiliaryTask):
    """CPC: a batch of its own size, on images whose side is a multiple of 56 pixels."""

    name = "cpc"
    space = Grid((0.1, 1.0, 10.0, 20.0, 50.0))
    weight_decay = False  # as in the authors' code; the paper does not say
    own_norm = True
    reference = MappingProxyType({"odin_units": "unit"})  # the authors' CPC code has ODIN's step in 0..1

    def images_per_step(self, batch_size: int) -> int:
        """Return CPC's batch size in proportion to classification's: 32 beside 64 in the paper."""
        return max(1, round(batch_size * self.recipe.cpc_batch_size / self.recipe.batch_size))

    def flops(self, recipe: Recipe) -> float:
        """Return the FLOPs of two versions of 36 patches in three groups, one in the context network."""
        size, width, places = code_size(recipe), recipe.cpc_channels, GRID * GRID
        side = patch_geometry(recipe.image_size).side
        trunk, first = trunk_flops(recipe, self.channels, side, groups=GROUPS)
        # A 1x1, a block of a 3x3 and a 1x1, four blocks of two 1x1s, a 1x1; then one map per distance.
        context = 2 * places * (size * width + (9 + 1 + 4 * 2 + 1) * width**2 + (GRID - 1) * width * size)
        image = VERSIONS * places * (3 * trunk - first) + 3 * context
        return image * recipe.cpc_batch_size / recipe.batch_size

    def check_fits(self, recipe: Recipe) -> None:
        """Raise Mistake if the image's side does not give patches of whole pixels."""
        if recipe.image_size % SIDES:
            near = SIDES * max(1, round(recipe.image_size / SIDES))
            raise Mistake(
                f"image_size={recipe.image_size} does not fit cpc, which cuts images into a grid of patches: "
                f"choose a multiple of {SIDES}, such as {near}."
            )

    def shared(self, recipe: Recipe, workers: int) -> Recipe:
        """Return the recipe with each worker's share of CPC's batch, at least 1."""
        return dataclasses.replace(recipe, cpc_batch_size=max(1, recipe.cpc_batch_size // workers))

    def build(self, network: WideResNet, recipe: Recipe) -> CPCModule:
        """Return the context network and its predictors."""
        from trainables.auxiliary.modules.cpc import CPCModule

        return CPCModule(recipe)

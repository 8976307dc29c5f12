"""Rotation prediction: which of four orientations an image has (Gidaris et al., 2018; paper, section 4).

The images come from a separate stream, a quarter as many as in a classification batch. Each appears in all
four orientations, shuffled together, without random crops or reflections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.auxiliary.contract import AuxiliaryTask
from trainables.networks.flops import training_flops
from trainables.recipe import Recipe
from trainables.spaces import LogUniform

if TYPE_CHECKING:
    from trainables.auxiliary.modules.rotation import RotationModule
    from trainables.networks.wide_resnet import WideResNet

ORIENTATIONS = 4


class Rotation(AuxiliaryTask):
    """Rotation: as many examples as in a classification step, of four classes."""

    name = "rotation"
    space = LogUniform(0.05, 5)

    def images_per_step(self, batch_size: int) -> int:
        """Return a quarter of the batch size, at least 1."""
        return max(1, batch_size // ORIENTATIONS)

    def flops(self, recipe: Recipe) -> int:
        """Return the FLOPs of an image of a classification step with four classes."""
        return training_flops(recipe, self.channels, ORIENTATIONS)

    def build(self, network: WideResNet, recipe: Recipe) -> RotationModule:
        """Return a linear layer beside the classifier, with four classes."""
        from trainables.auxiliary.modules.rotation import RotationModule

        return RotationModule(network, recipe)

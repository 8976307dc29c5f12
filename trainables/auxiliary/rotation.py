"""Predicting which of four orientations an image is shown in (Gidaris et al., 2018; paper, section 4).

The images come from a stream of their own, a quarter as many as a classification batch, each in all
four orientations, shuffled together, without random crops or reflections.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.auxiliary.contract import AuxiliaryTask, Draws
from trainables.data.augment import Normalisation, center_crop
from trainables.networks.wide_resnet import WideResNet
from trainables.run import Recipe

ORIENTATIONS = 4


class Task(AuxiliaryTask):
    """One more linear layer beside the classifier's, with four classes."""

    name = "rotation"

    def __init__(self, network: WideResNet, recipe: Recipe) -> None:
        super().__init__()
        self.head = nn.Linear(network.features, ORIENTATIONS)
        self.image_size = recipe.image_size
        self.transposes = recipe.rotation_set == "transposes"

    def images_per_step(self, batch_size: int) -> int:
        """A quarter of the batch, at least one."""
        return max(1, batch_size // ORIENTATIONS)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """Every image in every orientation, shuffled: 4n examples."""
        order = torch.randperm(ORIENTATIONS * len(rows), generator=generator)
        orientation = torch.arange(ORIENTATIONS).repeat_interleave(len(rows))
        return Draws(rows.repeat(ORIENTATIONS)[order], {"orientation": orientation[order]})

    def loss(
        self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Normalisation
    ) -> Tensor:
        """Cross-entropy of the orientation."""
        orientation = draws.each["orientation"].to(images_NHWC.device)
        turned = orient(center_crop(images_NHWC, self.image_size), orientation, transposes=self.transposes)
        return F.cross_entropy(self.head(network.embed(normalise(turned), self.name)), orientation)


def orient(images_NHWC: Tensor, orientation: Tensor, *, transposes: bool = False) -> Tensor:
    """Each image (H = W) in its orientation, 0 to 3.

    Counter-clockwise turns by 0, 90, 180 and 270 degrees; with `transposes` the authors' code's set:
    identity, vertical flip, transpose, transpose of the flip.
    """
    turned = images_NHWC.clone()
    for k in range(1, ORIENTATIONS):
        chosen = (orientation == k).nonzero().squeeze(1)
        image = images_NHWC[chosen]
        if not transposes:
            turned[chosen] = torch.rot90(image, k, (1, 2))
        else:
            flipped = image.flip(1) if k in (1, 3) else image
            turned[chosen] = flipped.transpose(1, 2) if k >= 2 else flipped
    return turned

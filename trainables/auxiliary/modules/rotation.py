"""Rotation prediction's head and loss (rotation.py beside this folder describes the task)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.auxiliary.modules.contract import Draws, TaskModule
from trainables.data.augment import center_crop
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe

ORIENTATIONS = 4


class RotationModule(TaskModule):
    """Rotation's head: a linear layer beside the classifier, with four classes."""

    def __init__(self, network: WideResNet, recipe: Recipe) -> None:
        super().__init__()
        self.head = nn.Linear(network.features, ORIENTATIONS)
        self.image_size = recipe.image_size
        self.transposes = recipe.rotation_set == "transposes"

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """Return every image in every orientation, shuffled: 4n examples."""
        order = torch.randperm(ORIENTATIONS * len(rows), generator=generator)
        orientation = torch.arange(ORIENTATIONS).repeat_interleave(len(rows))
        return Draws(rows.repeat(ORIENTATIONS)[order], {"orientation": orientation[order]})

    def loss(
        self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Normalisation
    ) -> Tensor:
        """Return the cross-entropy of the orientation."""
        orientation = draws.each["orientation"].to(images_NHWC.device)
        turned = orient(center_crop(images_NHWC, self.image_size), orientation, transposes=self.transposes)
        return F.cross_entropy(self.head(network.embed(normalise(turned), "rotation")), orientation)


def orient(images_NHWC: Tensor, orientation: Tensor, *, transposes: bool = False) -> Tensor:
    """Return each square image (B, H, H, C) in its orientation, int64 (B,) of 0 to 3.

    Orientations are counter-clockwise turns by 0, 90, 180 and 270 degrees, or with `transposes` those of the
    authors' code: identity, vertical flip, transpose, transpose of the flip.
    """
    device, side = images_NHWC.device, images_NHWC.shape[1]
    row, col = torch.arange(side, device=device)[:, None], torch.arange(side, device=device)
    up, left = side - 1 - row, side - 1 - col
    # Where each pixel comes from: one look-up for the batch, whatever the orientations are.
    sources = [(row, col), (up, col), (col, row), (left, row)]
    if not transposes:
        sources = [(row, col), (col, up), (up, left), (left, row)]
    rows, cols = (torch.stack([s[axis].expand(side, side) for s in sources]) for axis in (0, 1))
    batch = torch.arange(len(images_NHWC), device=device)[:, None, None]
    return images_NHWC[batch, rows[orientation], cols[orientation]]

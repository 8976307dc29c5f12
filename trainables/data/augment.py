"""Random crops, reflections and masks of whole batches.

The random draws of an epoch are made before it begins, so that each worker can take a slice of them and a
resumed run repeats them. Images are uint8 (B, H, W, C); N, H, W, C in names are batch and image axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.recipe import Recipe

MASK_SIDE = 16 / 32
MASK_REGION = 21 / 32
MASK_OFFSET = 5 / 32
"""Sides of the masked square and of the central region that contains it, and the region's offset.

They are shares of the image's side: 16, 21 and 5 of CIFAR-10's 32 pixels (paper, table 7).
"""


@dataclass(frozen=True)
class Views:
    """Random views of n images: corners of crops and masks, int64 (n, 2), and reflections, bool (n,)."""

    corners: Tensor
    flips: Tensor
    masks: Tensor | None = None

    def take(self, chosen: slice) -> Views:
        """Return the views of a slice of the images."""
        masks = None if self.masks is None else self.masks[chosen]
        return Views(self.corners[chosen], self.flips[chosen], masks)

    def to(self, device: torch.device) -> Views:
        """Return the same views on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return Views(self.corners.to(device), self.flips.to(device), masks)


def padding(recipe: Recipe) -> int:
    """Return the width in pixels of the reflected border on each side before the crop."""
    return round(recipe.prepared_size * recipe.crop_padding)


def draw_views(n: int, recipe: Recipe, generator: torch.Generator, *, center_mask: bool = False) -> Views:
    """Draw uniform crop corners, reflections with probability 1/2, and mask corners with `center_mask`."""
    room = recipe.prepared_size + 2 * padding(recipe) - recipe.image_size
    corners = torch.randint(0, room + 1, (n, 2), generator=generator)
    flips = torch.rand(n, generator=generator) < 0.5
    if not recipe.flip:
        flips = torch.zeros(n, dtype=torch.bool)
    masks = None
    if center_mask:
        side, offset, region = mask_geometry(recipe.image_size)
        masks = offset + torch.randint(0, region - side + 1, (n, 2), generator=generator)
    return Views(corners, flips, masks)


def mask_geometry(image_size: int) -> tuple[int, int, int]:
    """Return the side of the masked square, and the offset and side of the central region, in pixels."""
    return round(image_size * MASK_SIDE), round(image_size * MASK_OFFSET), round(image_size * MASK_REGION)


def random_crop(images_NHWC: Tensor, views: Views, recipe: Recipe) -> Tensor:
    """Return each image's crop after reflection padding, mirrored if so drawn: uint8 (B, S, S, C).

    Padding, crop and mirroring are one gather: the index of each output pixel is folded back into the image,
    as numpy's "reflect" padding does.
    """
    side = images_NHWC.shape[1]
    steps = torch.arange(recipe.image_size, device=images_NHWC.device)
    corners = views.corners.to(images_NHWC.device) - padding(recipe)
    rows = _reflect(corners[:, :1] + steps, side)
    cols = _reflect(corners[:, 1:] + steps, side)
    cols = torch.where(views.flips.to(images_NHWC.device)[:, None], cols.flip(1), cols)
    batch = torch.arange(len(images_NHWC), device=images_NHWC.device)
    return images_NHWC[batch[:, None, None], rows[:, :, None], cols[:, None, :]]


def center_crop(images_NHWC: Tensor, image_size: int) -> Tensor:
    """Return the central square of each image: (B, S, S, C)."""
    start = (images_NHWC.shape[1] - image_size) // 2
    return images_NHWC[:, start : start + image_size, start : start + image_size]


def mask_squares(inputs_NCHW: Tensor, views: Views) -> Tensor:
    """Set each image's masked square to 0, the training mean after normalisation: float32 (B, C, H, W)."""
    if views.masks is None:
        return inputs_NCHW
    side = mask_geometry(inputs_NCHW.shape[-1])[0]
    steps = torch.arange(inputs_NCHW.shape[-1], device=inputs_NCHW.device)
    offset = steps - views.masks.to(inputs_NCHW.device)[:, :, None]
    inside = (offset >= 0) & (offset < side)
    return inputs_NCHW.masked_fill((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], 0.0)


def _reflect(index: Tensor, side: int) -> Tensor:
    """Fold indices at the border, excluding the edge pixel: -1 becomes 1, side becomes side - 2."""
    period = max(1, 2 * (side - 1))
    folded = index.abs() % period
    return torch.minimum(folded, period - folded)

"""Random crops, reflections and masks of whole batches at once.

Every random draw is made for a whole epoch beforehand, so that workers can take slices of it and a
resumed run repeats it. Images are uint8 (B, H, W, C); N, H, W, C in names are batch and image axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.run import Recipe

MASK_SIDE = 16 / 32
MASK_REGION = 21 / 32
MASK_OFFSET = 5 / 32
"""The square, the central region that holds it and the region's offset, as shares of the side: 16, 21
and 5 of CIFAR-10's 32 pixels (paper, table 7)."""


@dataclass(frozen=True)
class Views:
    """The random view of each image: crop corners int64 (n, 2), reflections bool (n,), mask corners."""

    corners: Tensor
    flips: Tensor
    masks: Tensor | None = None

    def take(self, chosen: slice) -> Views:
        """The views of some images."""
        masks = None if self.masks is None else self.masks[chosen]
        return Views(self.corners[chosen], self.flips[chosen], masks)


def padding(recipe: Recipe) -> int:
    """Pixels of reflected border on each side before the crop."""
    return round(recipe.prepared_size * recipe.crop_padding)


def draw_views(n: int, recipe: Recipe, generator: torch.Generator, *, center_mask: bool = False) -> Views:
    """Uniform crop corners, reflections with probability 1/2, and mask corners if asked for."""
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
    """Side of the masked square, offset and side of the central region, in pixels."""
    return tuple(round(image_size * share) for share in (MASK_SIDE, MASK_OFFSET, MASK_REGION))  # type: ignore[return-value]


def random_crop(images_NHWC: Tensor, views: Views, recipe: Recipe) -> Tensor:
    """Each image's crop from its border-reflected self, reflected where drawn: uint8 (B, S, S, C).

    Padding, crop and reflection are one gather: the index of each output pixel is folded back into the
    image as numpy's "reflect" border does.
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
    """The central square of each image: (B, S, S, C)."""
    start = (images_NHWC.shape[1] - image_size) // 2
    return images_NHWC[:, start : start + image_size, start : start + image_size]


def mask_squares(inputs_NCHW: Tensor, views: Views) -> Tensor:
    """Sets each image's square to 0, which is the training mean after normalisation."""
    if views.masks is None:
        return inputs_NCHW
    side = mask_geometry(inputs_NCHW.shape[-1])[0]
    steps = torch.arange(inputs_NCHW.shape[-1], device=inputs_NCHW.device)
    offset = steps - views.masks.to(inputs_NCHW.device)[:, :, None]
    inside = (offset >= 0) & (offset < side)
    return inputs_NCHW.masked_fill((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], 0.0)


def _reflect(index: Tensor, side: int) -> Tensor:
    """Folds indices at the border, edge pixel excluded: -1 is 1, side is side - 2."""
    period = max(1, 2 * (side - 1))
    folded = index.abs() % period
    return torch.minimum(folded, period - folded)


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, float32 (C,), in units of pixels scaled to 0..1."""

    mean: Tensor
    std: Tensor

    def __call__(self, images_NHWC: Tensor) -> Tensor:
        """Normalised float32 (B, C, H, W), channels last in memory, from uint8 (B, H, W, C)."""
        scale = 1 / (255 * self.std)
        values = torch.addcmul(-self.mean / self.std, images_NHWC.float(), scale)
        return values.permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> Normalisation:
        """The same on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))

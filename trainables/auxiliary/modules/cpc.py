"""The head and the loss of contrastive predictive coding (CPC; paper, appendix B).

An image is divided into a 6x6 grid of patches that overlap by half. Each patch is distorted independently and
encoded by the trunk's first three groups. A context network sees the codes of a row and of those above it,
and predicts the codes of the rows below. Names give the axes: B images, C channels, R and K rows and columns
of the grid, P the side of a patch, D the size of a code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.auxiliary.modules.contract import Draws, TaskModule
from trainables.auxiliary.modules.patches import GRID, GROUPS, VERSIONS, code_size, patch_geometry
from trainables.data.augment import Views, draw_views, random_crop
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import Conv, Norm, WideResNet
from trainables.recipe import Recipe

PATCHES = GRID * GRID
DISTANCES = GRID - 1
CONTEXT_BLOCKS = 4


class CPCModule(TaskModule):
    """CPC's head: the context network, and a linear map without bias for each distance of 1 to 5 rows."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.patches = patch_geometry(recipe.image_size)
        size, width = code_size(recipe), recipe.cpc_channels
        self.norm = Norm(size)
        # The authors' code pads the masked convolution with zeros, unlike the others.
        padding = "zeros" if recipe.fidelity == "reference" else recipe.padding
        self.context = Context(size, width, padding)
        self.predictors = nn.Linear(width, DISTANCES * size, bias=False)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """Return views of the images, distortions of both versions of each patch, and one permutation."""
        n = len(rows)
        views = draw_views(n, self.recipe, generator)
        shape = (n, VERSIONS, PATCHES)
        room = self.patches.side - self.patches.crop
        each = {
            "corners": views.corners,
            "flips": views.flips,
            "channel": torch.randint(0, 2**31, shape, generator=generator),
            "reflected": torch.rand(shape, generator=generator) < 0.5,
            "offset": torch.randint(0, room + 1, (*shape, 2), generator=generator),
        }
        return Draws(rows, each, {"permutation": torch.randperm(PATCHES, generator=generator)})

    def loss(
        self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Normalisation
    ) -> Tensor:
        """Return the cross-entropy of telling the code below from that of another patch of the image."""
        images = random_crop(images_NHWC, Views(draws.each["corners"], draws.each["flips"]), self.recipe)
        codes = self.encode(network, normalise(distorted_patches(images, draws)))
        seen, negatives = codes.unflatten(0, (-1, VERSIONS)).unbind(1)
        return self.contrast(seen, seen, permuted(negatives, draws.shared["permutation"]))

    def encode(self, network: WideResNet, patches_NCPP: Tensor) -> Tensor:
        """Map normalised patches (B * 36, C, P, P), in order of image and place, to codes (B, D, R, K)."""
        trunk = network.trunk(patches_NCPP, "cpc", GROUPS)
        codes: Tensor = F.relu(self.norm(trunk)).mean((2, 3))
        grid: Tensor = codes.unflatten(0, (-1, GRID, GRID))
        return grid.permute(0, 3, 1, 2)

    def contrast(self, seen: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean 2-way cross-entropy over 15 pairs of rows x 6 columns, of codes (B, D, R, K)."""
        predictions = self.predict(seen)
        return F.softplus(pair_scores(predictions, negatives) - pair_scores(predictions, positives)).mean()

    def predict(self, codes: Tensor) -> Tensor:
        """Map codes (B, D, R, K) to predictions (B, distance - 1, D, R, K) from their contexts."""
        context = self.context(codes)
        predicted: Tensor = self.predictors(context.permute(0, 2, 3, 1))
        by_distance: Tensor = predicted.unflatten(3, (DISTANCES, -1))
        return by_distance.permute(0, 3, 4, 1, 2)


class Context(nn.Module):
    """The context network; the contexts of a row do not depend on rows below it."""

    def __init__(self, size: int, width: int, padding: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(size, width, 1)
        self.blocks = nn.Sequential(
            Residual(RowsAbove(width, padding), width),
            *(Residual(nn.Conv2d(width, width, 1), width) for _ in range(CONTEXT_BLOCKS)),
        )
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (B, D, R, K) to contexts (B, width, R, K), without norm, since statistics mix rows."""
        contexts: Tensor = self.last(F.relu(self.blocks(self.first(codes))))
        return contexts


class Residual(nn.Module):
    """A residual block: x + 1x1(ReLU(convolution(ReLU(x))))."""

    def __init__(self, convolution: nn.Module, width: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, R, K) to the same shape."""
        added: Tensor = x + self.mix(F.relu(self.convolution(F.relu(x))))
        return added


class RowsAbove(Conv):
    """A 3x3 convolution that sees only its own row and the one above."""

    mask: Tensor

    def __init__(self, width: int, padding: str) -> None:
        super().__init__(width, width, 3, 1, padding, bias=True)
        mask = torch.ones(3, 1)
        mask[2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor = super()._conv_forward(x, weight * self.mask, bias)
        return out


def pair_scores(predictions: Tensor, codes: Tensor) -> Tensor:
    """Return the mean over channels of code x prediction, (B, 15, K), in at least float32 despite autocast.

    Predictions are (B, distance - 1, D, R, K), codes (B, D, R, K).
    """
    wide = torch.promote_types(codes.dtype, torch.float32)
    predictions, codes = predictions.to(wide), codes.to(wide)
    rows, below = torch.triu_indices(
        GRID, GRID, offset=1, device=codes.device
    )  # 15 pairs, one below the other
    predicted = predictions[:, below - rows - 1, :, rows]  # indexed axes come first: (15, B, D, K)
    actual = codes[:, :, below].permute(2, 0, 1, 3)
    return (predicted * actual).mean(2).transpose(0, 1)


def permuted(codes: Tensor, permutation: Tensor) -> Tensor:
    """Return codes (B, D, R, K) with the same permutation of their 36 places in every image."""
    return codes.flatten(2)[..., permutation.to(codes.device)].view_as(codes)


def distorted_patches(images_NHWC: Tensor, draws: Draws) -> Tensor:
    """Return both versions of each image's patches, uint8 (B * 2 * 36, P, P, C), distorted independently.

    A patch keeps one channel, copied to all. It is mirrored or not. Its random crop of 7/8 of the side is
    padded to the full side by reflection, excluding the edge. All of this is one gather from the images.
    """
    n, side, _, channels = images_NHWC.shape
    device = images_NHWC.device
    geometry = patch_geometry(side)
    each = {name: values.to(device).flatten(0, 2) for name, values in draws.each.items() if values.ndim >= 3}
    place = torch.arange(PATCHES, device=device).repeat(n * VERSIONS)
    image = torch.arange(n, device=device).repeat_interleave(VERSIONS * PATCHES)
    border = (torch.arange(geometry.side, device=device) - geometry.pad).abs()
    border = torch.minimum(border, 2 * (geometry.crop - 1) - border)  # reflected at both ends
    rows, cols = (each["offset"][:, axis, None] + border for axis in (0, 1))
    cols = torch.where(each["reflected"][:, None], geometry.side - 1 - cols, cols)
    rows = rows + (place // GRID * geometry.stride)[:, None]
    cols = cols + (place % GRID * geometry.stride)[:, None]
    channel = each["channel"] % channels
    flat = ((image[:, None] * side + rows)[:, :, None] * side + cols[:, None, :]) * channels
    values = images_NHWC.reshape(-1)[flat + channel[:, None, None]]
    return values[..., None].expand(-1, -1, -1, channels)

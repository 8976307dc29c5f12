"""Contrastive predictive coding: from the rows above, tell a patch's code from another's (paper, appendix B).

An image is cut into a 6x6 grid of patches that overlap by half. Each patch is distorted by itself and
encoded by the trunk's first three groups; a context network looks at the codes in a row and above, and
predicts those of the rows below. Names give the axes: B images, C channels, R and K rows and columns of
the grid, P a patch's side, D a code's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.auxiliary.contract import AuxiliaryTask, Draws
from trainables.data.augment import Normalisation, Views, draw_views, random_crop
from trainables.networks.shapes import GRID, code_size, patch_geometry
from trainables.networks.wide_resnet import Conv, Norm, WideResNet
from trainables.run import Recipe

PATCHES = GRID * GRID
DISTANCES = GRID - 1
CONTEXT_BLOCKS = 4
VERSIONS = 2
"""Each patch is distorted twice: as the code that is looked at and predicted, and as a negative."""
GROUPS = 3
"""Groups of the trunk that encode patches."""

ROWS, BELOW = torch.triu_indices(GRID, GRID, offset=1)
"""The 15 pairs of a row of contexts and a row underneath it."""


class Task(AuxiliaryTask):
    """The context network and a bias-free linear map for each distance of 1 to 5 rows."""

    name = "cpc"
    weight_decay = False  # as in the authors' code; the paper is silent

    def __init__(self, network: WideResNet, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.patches = patch_geometry(recipe.image_size)
        size, width = code_size(recipe), recipe.cpc_channels
        self.norm = Norm(size)
        # The authors' code pads the masked convolution with zeros, whatever the others do.
        padding = "zeros" if recipe.fidelity == "reference" else recipe.padding
        self.context = Context(size, width, padding)
        self.predictors = nn.Linear(width, DISTANCES * size, bias=False)

    def images_per_step(self, batch_size: int) -> int:
        """CPC's own batch, 32 beside classification's 64 in the paper, in that proportion."""
        return max(1, round(batch_size * self.recipe.cpc_batch_size / self.recipe.batch_size))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """Views of the images, distortions of each patch in both versions, one permutation for all."""
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
        """Cross-entropy of telling the code underneath from another patch's of the same image."""
        images = random_crop(images_NHWC, Views(draws.each["corners"], draws.each["flips"]), self.recipe)
        codes = self.encode(network, normalise(distorted_patches(images, draws)))
        seen, negatives = codes.unflatten(0, (-1, VERSIONS)).unbind(1)
        return self.contrast(seen, seen, permuted(negatives, draws.shared["permutation"]))

    def encode(self, network: WideResNet, patches_NCPP: Tensor) -> Tensor:
        """Codes (B, D, R, K) of normalised patches (B * 36, C, P, P), in order of image and place."""
        trunk = network.trunk(patches_NCPP, self.name, GROUPS)
        codes = F.relu(self.norm(trunk)).mean((2, 3))
        return codes.unflatten(0, (-1, GRID, GRID)).permute(0, 3, 1, 2)

    def contrast(self, seen: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Mean over 15 pairs of rows x 6 columns of the 2-way cross-entropy; all codes are (B, D, R, K)."""
        predictions = self.predict(seen)
        return F.softplus(pair_scores(predictions, negatives) - pair_scores(predictions, positives)).mean()

    def predict(self, codes: Tensor) -> Tensor:
        """Predictions (B, distance - 1, D, R, K) from the contexts of codes (B, D, R, K)."""
        context = self.context(codes)
        predicted = self.predictors(context.permute(0, 2, 3, 1))
        return predicted.unflatten(3, (DISTANCES, -1)).permute(0, 3, 4, 1, 2)


class Context(nn.Module):
    """Contexts (B, width, R, K) of codes (B, D, R, K); a row's depends on no row below it."""

    def __init__(self, size: int, width: int, padding: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(size, width, 1)
        self.blocks = nn.Sequential(
            Residual(RowsAbove(width, padding), width),
            *(Residual(nn.Conv2d(width, width, 1), width) for _ in range(CONTEXT_BLOCKS)),
        )
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """No norm anywhere: batch statistics would mix rows."""
        return self.last(F.relu(self.blocks(self.first(codes))))


class Residual(nn.Module):
    """x + 1x1(ReLU(convolution(ReLU(x))))."""

    def __init__(self, convolution: nn.Module, width: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, R, K) to the same shape."""
        return x + self.mix(F.relu(self.convolution(F.relu(x))))


class RowsAbove(Conv):
    """A 3x3 convolution that sees its own row and the one above."""

    mask: Tensor

    def __init__(self, width: int, padding: str) -> None:
        super().__init__(width, width, 3, 1, padding, bias=True)
        mask = torch.ones(3, 1)
        mask[2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * self.mask, bias)


def pair_scores(predictions: Tensor, codes: Tensor) -> Tensor:
    """Mean over channels of code x prediction, (B, 15, K), in float32 at least, whatever autocast made them.

    Predictions are (B, distance - 1, D, R, K), codes (B, D, R, K).
    """
    wide = torch.promote_types(codes.dtype, torch.float32)
    predictions, codes = predictions.to(wide), codes.to(wide)
    rows, below = ROWS.to(codes.device), BELOW.to(codes.device)
    predicted = predictions[:, below - rows - 1, :, rows]  # indexed axes come first: (15, B, D, K)
    actual = codes[:, :, below].permute(2, 0, 1, 3)
    return (predicted * actual).mean(2).transpose(0, 1)


def permuted(codes: Tensor, permutation: Tensor) -> Tensor:
    """Codes (B, D, R, K) with their 36 places permuted alike in every image."""
    return codes.flatten(2)[..., permutation.to(codes.device)].view_as(codes)


def distorted_patches(images_NHWC: Tensor, draws: Draws) -> Tensor:
    """Each image's patches twice, uint8 (B * 2 * 36, P, P, C), each copy distorted by itself.

    A patch keeps one channel, copied to all; is reflected or not; and its random crop of 7/8 of the side
    is padded back by its mirror, edge excluded. All of that is one gather from the images.
    """
    n, side, _, channels = images_NHWC.shape
    device = images_NHWC.device
    geometry = patch_geometry(side)
    each = {name: values.to(device).flatten(0, 2) for name, values in draws.each.items() if values.ndim >= 3}
    place = torch.arange(PATCHES, device=device).repeat(n * VERSIONS)
    image = torch.arange(n, device=device).repeat_interleave(VERSIONS * PATCHES)
    border = (torch.arange(geometry.side, device=device) - geometry.pad).abs()
    border = torch.minimum(border, 2 * (geometry.crop - 1) - border)  # the mirror at both ends
    rows, cols = (each["offset"][:, axis, None] + border for axis in (0, 1))
    cols = torch.where(each["reflected"][:, None], geometry.side - 1 - cols, cols)
    rows = rows + (place // GRID * geometry.stride)[:, None]
    cols = cols + (place % GRID * geometry.stride)[:, None]
    channel = each["channel"] % channels
    flat = ((image[:, None] * side + rows)[:, :, None] * side + cols[:, None, :]) * channels
    values = images_NHWC.reshape(-1)[flat + channel[:, None, None]]
    return values[..., None].expand(-1, -1, -1, channels)

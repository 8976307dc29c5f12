"""Wide residual networks (Zagoruyko & Komodakis, 2016) for any image size and number of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.networks.shapes import block_shapes, stem_shape
from trainables.recipe import Recipe

CLASSIFICATION = "classification"
"""The task for which every layer has batch norm."""


class Norm(nn.Module):
    """Batch norm with separate scale, shift and running statistics for some tasks.

    Without such tasks it is plain batch norm; with them it is conditional batch norm (paper, appendix B).
    """

    def __init__(self, channels: int, own_tasks: tuple[str, ...] = ()) -> None:
        super().__init__()
        tasks = (CLASSIFICATION, *own_tasks)
        self.by_task = nn.ModuleDict({task: nn.BatchNorm2d(channels) for task in tasks})

    def forward(self, x: Tensor, task: str = CLASSIFICATION) -> Tensor:
        """Normalise (B, C, H, W) by the task's own statistics if it has any, else by classification's."""
        normalised: Tensor = self.by_task[task if task in self.by_task else CLASSIFICATION](x)
        return normalised


class Conv(nn.Conv2d):
    """A convolution with padding that keeps the size, except for its stride.

    It pads with zeros or symmetrically. Symmetric padding mirrors with the edge included, as numpy's
    "symmetric" does.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, padding: str, bias: bool = False
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, 0 if padding == "symmetric" else kernel // 2, bias=bias)
        self.mirror = kernel // 2 if padding == "symmetric" else 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, ceil(H / stride), ceil(W / stride))."""
        return super().forward(symmetric_pad(x, self.mirror) if self.mirror else x)


def symmetric_pad(x: Tensor, pad: int) -> Tensor:
    """Pad height and width of (B, C, H, W) by the mirror image, with the edge included."""
    if pad == 1:  # torch's "replicate" is the same then
        return F.pad(x, (1, 1, 1, 1), mode="replicate")
    for axis in (-2, -1):
        size = x.shape[axis]
        head = x.narrow(axis, 0, pad).flip(axis)
        tail = x.narrow(axis, size - pad, pad).flip(axis)
        x = torch.cat([head, x, tail], axis)
    return x


class Block(nn.Module):
    """A residual block: norm, ReLU, 3x3; norm, ReLU, dropout, 3x3; and a shortcut.

    The shortcut is a 1x1 convolution if the shape changes. In the published variant its input is the output
    of the first norm and ReLU; with `raw_shortcut`, in the wide variant, it is the block's input.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int, recipe: Recipe, own_tasks: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(c_in, own_tasks), Norm(c_out, own_tasks)
        self.conv1 = Conv(c_in, c_out, 3, stride, recipe.padding)
        self.conv2 = Conv(c_out, c_out, 3, 1, recipe.padding)
        changes = stride != 1 or c_in != c_out
        self.shortcut = Conv(c_in, c_out, 1, stride, recipe.padding) if changes else None
        self.raw_shortcut = recipe.variant == "wide"
        self.dropout = recipe.dropout

    def forward(self, x: Tensor, task: str) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, ceil(H / stride), ceil(W / stride))."""
        active = F.relu(self.norm1(x, task))
        out = F.relu(self.norm2(self.conv1(active), task))
        out = self.conv2(F.dropout(out, self.dropout, self.training) if self.dropout else out)
        if self.shortcut is not None:
            x = self.shortcut(x if self.raw_shortcut else active)
        added: Tensor = x + out
        return added


class WideResNet(nn.Module):
    """A trunk of residual groups with a linear classifier.

    `own_tasks` are the auxiliary tasks with separate batch norm in the first three groups. `features` is the
    number of features.
    """

    def __init__(self, recipe: Recipe, channels: int, classes: int, own_tasks: tuple[str, ...] = ()) -> None:
        super().__init__()
        wide = recipe.variant == "wide"
        stem_channels, kernel = stem_shape(recipe)
        self.stem = Conv(channels, stem_channels, kernel, recipe.stem_stride, recipe.padding, bias=wide)
        self.pool = _stem_pool(recipe)
        self.groups = nn.ModuleList()
        for number, group in enumerate(block_shapes(recipe)):
            own = own_tasks if number < 3 else ()
            self.groups.append(nn.ModuleList(Block(*shape, recipe, own) for shape in group))
        self.features = block_shapes(recipe)[-1][-1][1]
        self.norm = Norm(self.features)
        self.classifier = nn.Linear(self.features, classes)

    def trunk(self, x: Tensor, task: str = CLASSIFICATION, groups: int | None = None) -> Tensor:
        """Map (B, channels, S, S) to the output (B, c, s, s) of the first `groups` groups, all if None."""
        x = self.pool(self.stem(x))
        for group in self.groups[:groups]:
            for block in group.children():
                x = block(x, task)
        return x

    def embed(self, x: Tensor, task: str = CLASSIFICATION) -> Tensor:
        """Map (B, channels, S, S) to features (B, self.features): trunk, norm, ReLU, spatial mean."""
        return F.relu(self.norm(self.trunk(x, task), task)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, S, S) to logits (B, classes)."""
        logits: Tensor = self.classifier(self.embed(x))
        return logits


def _stem_pool(recipe: Recipe) -> nn.Module:
    if not recipe.stem_pool:
        return nn.Identity()
    return nn.MaxPool2d(3, 2, padding=1) if recipe.variant == "wide" else nn.AvgPool2d(2)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise in place after He: convolutions for ReLU by fan-out, linear layers by fan-in, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear", generator=generator)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()

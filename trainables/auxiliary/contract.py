"""The contract between the training loop and an auxiliary task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainables.data.augment import Normalisation
from trainables.networks.wide_resnet import WideResNet


@dataclass(frozen=True)
class Draws:
    """The random choices of one step, made for all workers together.

    Tensors in `each` have one entry an example along their first axis and are sliced by worker; those in
    `shared` hold for the whole batch. `rows` are the examples' positions in the training part.
    """

    rows: Tensor
    each: dict[str, Tensor] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)

    def take(self, chosen: slice) -> Draws:
        """One worker's share."""
        return Draws(self.rows[chosen], {k: v[chosen] for k, v in self.each.items()}, self.shared)


class AuxiliaryTask(nn.Module, ABC):
    """A self-supervised task that shares the trunk: it owns its head, its batch and its loss.

    The module's parameters are the head's alone; the trunk is handed to `loss`.
    """

    name: str
    weight_decay: bool = True
    """Whether the task's step applies L2."""

    @abstractmethod
    def images_per_step(self, batch_size: int) -> int:
        """How many images the task takes from its stream for a classification batch of this size."""

    @abstractmethod
    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """The step's examples and random choices from the images at `rows`, int64 (n,)."""

    @abstractmethod
    def loss(
        self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Normalisation
    ) -> Tensor:
        """The mean loss, a scalar, over one worker's examples, uint8 (B, H, W, C), one for each draw."""

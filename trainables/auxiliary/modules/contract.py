"""The contract between the training loop and the module of an auxiliary task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainables.data.normalisation import Normalisation
from trainables.data.sending import sent
from trainables.networks.wide_resnet import WideResNet


@dataclass(frozen=True)
class Draws:
    """The random choices of one step, made for all workers together.

    `rows` are the examples' positions in the training part, int64 (n,). Tensors in `each` have one entry per
    example along their first axis and are sliced by worker; those in `shared` are for the whole batch.
    """

    rows: Tensor
    each: dict[str, Tensor] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)

    def take(self, chosen: slice) -> Draws:
        """Return the draws of a slice of the examples, such as a worker's share."""
        return Draws(self.rows[chosen], {k: v[chosen] for k, v in self.each.items()}, self.shared)

    def to(self, device: torch.device) -> Draws:
        """Return the draws with the tensors of `each` and `shared` on a device; `rows` stay on the CPU."""
        moved = [
            {
                name: sent(value, device) if isinstance(value, Tensor) else value
                for name, value in part.items()
            }
            for part in (self.each, self.shared)
        ]
        return Draws(self.rows, *moved)


class TaskModule(nn.Module, ABC):
    """A task's head, batch and loss.

    The module's parameters are the head's only; `loss` is given the trunk, whose `embed(inputs, task)` gives
    features, (n, network.features).
    """

    @abstractmethod
    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        """Return a step's examples and random choices, for images at `rows`, int64 (n,)."""

    @abstractmethod
    def loss(
        self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Normalisation
    ) -> Tensor:
        """Return the mean loss, a scalar, over a worker's examples, uint8 (B, H, W, C), one per draw."""

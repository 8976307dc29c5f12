"""The group of worker processes that train one network together; a group of one costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Workers:
    """This process's place in its group; torch.distributed must be initialised where size > 1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the worker that speaks for the group."""
        return self.rank == 0

    def from_leader(self, value: Any) -> Any:
        """The first worker's value, on every worker; it must be one that pickle knows."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, n: int) -> slice:
        """This worker's part of n examples: consecutive, disjoint and together all of them."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its mean over the workers, all of them in one message.

        A step's loss leaves some of the network without gradient (the classifier in an auxiliary step);
        the same parameters have one on every worker, so nothing needs to be searched for.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def average_statistics(self, network: nn.Module) -> None:
        """Replaces batch norm's running statistics by their mean over the workers."""
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size

    def gather(self, values: Tensor) -> Tensor:
        """The workers' values, which may differ in length, one after another in order of rank."""
        if self.size == 1:
            return values
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, values.cpu())
        return torch.cat([part for part in parts if part is not None])

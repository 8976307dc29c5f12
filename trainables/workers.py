"""The group of worker processes that train one network together; a group of one has no overhead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Workers:
    """This process's place in its group; torch.distributed must be initialised if size > 1."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes and reports for the group."""
        return self.rank == 0

    def from_leader(self, value: Any) -> Any:
        """Return the first worker's value, which must be picklable, on every worker."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any_of(self, value: Any) -> Any:
        """Return the first worker's value that is not None, on every worker alike; None if there is none."""
        if self.size == 1:
            return value
        found = [None] * self.size
        dist.all_gather_object(found, value)
        return next((each for each in found if each is not None), None)

    def share(self, n: int) -> slice:
        """Return this worker's part of n examples; the parts are consecutive, disjoint and complete."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the workers, with one message for all of them.

        A step's loss gives no gradient to some parameters (the classifier's in an auxiliary step). They are
        the same on every worker, so that no search for unused parameters is needed.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients[0].is_cuda:  # on CPUs, the order in which several workers' numbers are added must stay
            gradients = as_they_lie(gradients)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        means = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [m.view_as(g) for m, g in zip(means, gradients, strict=True)])

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the workers, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def average_statistics(self, network: nn.Module) -> None:
        """Replace batch norm's running statistics by their mean over the workers."""
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size

    def gather(self, values: Tensor) -> Tensor:
        """Return the workers' values, which may differ in length, concatenated in order of rank."""
        if self.size == 1:
            return values
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, values.cpu())
        return torch.cat([part for part in parts if part is not None])


def as_they_lie(gradients: list[Tensor]) -> list[Tensor]:
    """Return views of channels_last tensors with their axes as in memory: few kernels copy them all."""
    last = torch.channels_last
    return [
        g.permute(0, 2, 3, 1) if g.ndim == 4 and g.is_contiguous(memory_format=last) else g for g in gradients
    ]

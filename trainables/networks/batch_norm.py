"""Batch norm beyond torch's own: which batches feed the running statistics, and statistics over all workers.

Evaluation reads the running statistics. The synchronised layer works on any device that torch.distributed
reaches; torch's SyncBatchNorm runs on GPUs only, where a CPU could not show that it does what it should.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

MOMENTUM = 0.1
"""Share of the newest batch in batch norm's running statistics (torch's convention)."""


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of the whole group's batch.

    Names and shapes of its state are BatchNorm2d's, so checkpoints of both can be exchanged.
    """

    together = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of this worker to the same shape; in training every worker must call it together."""
        if not (self.training and self.together):
            return super().forward(x)
        values = x.float() if x.dtype.itemsize < 4 else x
        count = torch.tensor(float(values.numel() // values.shape[1]), device=x.device, dtype=values.dtype)
        dist.all_reduce(count)
        mean = all_reduce(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics as BatchNorm2d does; a momentum of None takes the plain mean."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronise(module: nn.Module) -> None:
    """Replaces, in place, every BatchNorm2d below a module, with its state."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            twin = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
            twin.load_state_dict(child.state_dict())
            twin.to(child.weight.device)
            module._modules[name] = twin
        else:
            synchronise(child)


@contextlib.contextmanager
def each_by_itself(network: nn.Module) -> Iterator[None]:
    """Each worker's batches are normalised alone, so that workers may pass different numbers of them."""
    norms = [layer for layer in network.modules() if isinstance(layer, SynchronisedBatchNorm)]
    for layer in norms:
        layer.together = False
    try:
        yield
    finally:
        for layer in norms:
            layer.together = True


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batches are normalised by their own statistics, and the running ones stay as they are."""
    norms = _norms(network)
    for layer in norms:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in norms:
            layer.track_running_stats = True


@contextlib.contextmanager
def fresh_statistics(network: nn.Module) -> Iterator[None]:
    """The running statistics begin anew and become the plain mean over the batches that pass."""
    norms = _norms(network)
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over the batches
        layer.train()
    try:
        yield
    finally:
        for layer in norms:
            layer.momentum = MOMENTUM


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]

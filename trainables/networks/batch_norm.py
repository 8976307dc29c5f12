"""Batch norm beyond torch's: which batches update the running statistics, and statistics over all workers.

Evaluation uses the running statistics. The synchronised layer works on every device that torch.distributed
supports; torch's SyncBatchNorm needs GPUs, so that tests on a CPU could not check it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

MOMENTUM = 0.1
"""Weight of the newest batch in batch norm's running statistics (torch's convention)."""


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of all workers' images together.

    Its state has the names and shapes of BatchNorm2d's, so their checkpoints are interchangeable.
    """

    together = True
    """Whether batches are normalised over all workers."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise this worker's (B, C, H, W); in training, all workers must call this together."""
        if not (self.training and self.together):
            return super().forward(x)
        values = x.float() if x.dtype.itemsize < 4 else x
        count = values.new_full((), values.numel() // values.shape[1])
        dist.all_reduce(count)
        mean = all_reduce(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)

    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as BatchNorm2d does; a momentum of None takes the plain mean."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronise(module: nn.Module) -> None:
    """Replace every BatchNorm2d inside a module, in place, by a synchronised layer with the same state."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            twin = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
            twin.load_state_dict(child.state_dict())
            twin.to(child.weight.device)
            module._modules[name] = twin
        else:
            synchronise(child)


@contextlib.contextmanager
def unsynchronised(network: nn.Module) -> Iterator[None]:
    """Normalise each worker's batches alone, so that workers may pass different numbers of batches."""
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
    """Normalise batches by their own statistics without updating the running ones."""
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
    """Reset the running statistics and let them become the plain mean over the batches that pass."""
    norms = _norms(network)
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # plain mean
        layer.train()
    try:
        yield
    finally:
        for layer in norms:
            layer.momentum = MOMENTUM


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]

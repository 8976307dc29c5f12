"""Batch norm's running statistics, which evaluation reads: left alone by some batches, or estimated anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

MOMENTUM = 0.1
"""Share of the newest batch in batch norm's running statistics (torch's convention)."""


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

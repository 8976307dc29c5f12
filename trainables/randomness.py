"""The random streams of a run, each derived from its purpose alone.

A stream depends on (sweep seed, the run's seed, epoch, purpose), and not on data, on the order of runs or on
earlier draws. So a run resumed after an epoch draws the same as an uninterrupted one, and two methods with
the same seed start from the same weights.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(sweep_seed: int, seed: int, epoch: int, purpose: str) -> int:
    """Return a 63-bit seed for a purpose; epoch 0 is for what happens before training."""
    text = f"{sweep_seed}/{seed}/{epoch}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(sweep_seed: int, seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for a purpose."""
    return torch.Generator().manual_seed(stream_seed(sweep_seed, seed, epoch, purpose))

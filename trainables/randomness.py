"""Every random stream of a run, each derived from what it is for and from nothing else.

A stream depends on (sweep seed, the run's seed, epoch, purpose): not on data, on the order in which
runs happen, or on what was drawn before. So a run resumed after an epoch draws what an uninterrupted
one draws, and two methods with the same seed start from the same weights.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(sweep_seed: int, seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed for one purpose; epoch 0 is for what happens before training."""
    text = f"{sweep_seed}/{seed}/{epoch}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(sweep_seed: int, seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(stream_seed(sweep_seed, seed, epoch, purpose))

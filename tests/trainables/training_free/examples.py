"""Small images with correlated pixels."""

from __future__ import annotations

import numpy as np
import torch

SIDE = 5


def images(seed: int, count: int, channels: int = 3) -> np.ndarray:
    """Return images with correlated pixels, and a different mean for each class (seed)."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, SIDE * SIDE * channels)) @ np.random.default_rng(99).normal(
        size=(SIDE * SIDE * channels, SIDE * SIDE * channels)
    )
    pixels = random.integers(90, 160) + 5 * mixed
    return np.clip(pixels, 0, 255).round().astype(np.uint8).reshape(count, SIDE, SIDE, channels)


def chunks(counts: tuple[int, ...], start: int, channels: int = 3) -> list[torch.Tensor]:
    """Return the images of several classes."""
    return [torch.from_numpy(images(start + i, count, channels)) for i, count in enumerate(counts)]


def whole(several: list[torch.Tensor]) -> np.ndarray:
    """Return the images of all classes in one array."""
    return np.concatenate([chunk.numpy() for chunk in several])


TRAIN = chunks((40, 50, 30), 1)
TEST = chunks((7, 6, 8), 11)

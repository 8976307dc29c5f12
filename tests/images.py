"""Small image folders for tests, and requests for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.readers.request import DataRequest


def noise(seed: int, side: int = 8, channels: int = 3) -> np.ndarray:
    """Random pixels: uint8 (side, side, channels), or (side, side) for one channel."""
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(
    root: Path, counts: dict[str, dict[str, int]], side: int = 8, start: int = 0
) -> dict[str, np.ndarray]:
    """Writes PNG files {split: {class: count}} and returns each path's pixels."""
    written = {}
    seed = start
    for split, classes in counts.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for place in range(count):
                seed += 1
                path = folder / f"{place:04d}.png"
                Image.fromarray(noise(seed, side)).save(path)
                written[str(path)] = noise(seed, side)
    return written


def folder_request(data: Path, cache: Path, side: int = 8, **changes: object) -> DataRequest:
    """A request for an image folder."""
    fields = {"reader": "image_folder", "name": "image-folder", "channels": 3, **changes}
    return DataRequest(path=str(data), side=side, cache=str(cache), **fields)  # type: ignore[arg-type]


def write_digits(root: Path, *, noisy: bool = False) -> None:
    """Four classes of digits as PNG files; if `noisy`, the test images and the class "three" are noise."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(7)
    bunch = load_digits()
    for name, digit in (("one", 1), ("three", 3), ("seven", 7), ("eight", 8)):
        images = (bunch.images[bunch.target == digit] * 15.9).astype(np.uint8)
        for number, image in enumerate(images[:60]):
            split = "train" if number < 40 else "test"
            if noisy and (split == "test" or name == "three"):
                image = rng.integers(0, 256, image.shape, dtype=np.uint8)
            path = root / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).convert("RGB").save(path)

"""CIFAR-10 in the layout of its Python version (cifar-10-batches-py), read by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.readers.source import Source, Split
from trainables.data.readers.torchvision_sets import TorchvisionSet

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest


def _load(root: str, split: str, *, download: bool = False) -> Any:
    """Return torchvision's data set of a split, which checks the files' checksums."""
    from torchvision.datasets import CIFAR10  # its import takes a second or more, and cached data needs none

    return CIFAR10(root, train=split == "train", download=download)


CIFAR10_FILES = TorchvisionSet(
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    files=(*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
    address="https://www.cs.toronto.edu/~kriz/cifar.html",
    archive="cifar-10-python.tar.gz",
    load=_load,
)


def sources(request: DataRequest) -> list[str]:
    """Return the batch files; raise Mistake if they are missing and may not be downloaded."""
    return CIFAR10_FILES.sources(request)


def read(request: DataRequest) -> Source:
    """Return all 60,000 images in the batches' order, with torchvision's order of classes.

    Raise Mistake if a file's checksum is wrong.
    """
    train, test = CIFAR10_FILES.open_splits(request)
    splits = {
        "train": _split(train.data, train.targets, "training"),
        "test": _split(test.data, test.targets, "test"),
    }
    return Source(tuple(train.classes), splits)


def _split(images: np.ndarray, labels: list[int], word: str) -> Split:
    return Split(np.array(labels, np.int64), images.__getitem__, lambda i: f"CIFAR-10's {word} image {i}")

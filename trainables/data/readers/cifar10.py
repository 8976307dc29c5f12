"""CIFAR-10 in the layout of its Python version, as torchvision reads it (cifar-10-batches-py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainables.data.readers.source import Source, Split
from trainables.data.readers.torchvision_sets import Layout

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

LAYOUT = Layout(
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    files=(*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
    address="https://www.cs.toronto.edu/~kriz/cifar.html",
    archive="cifar-10-python.tar.gz",
)


def sources(request: DataRequest) -> list[str]:
    """The batch files; raises Mistake where they are missing and may not be downloaded."""

    def fetch(root: str) -> object:
        from torchvision.datasets import CIFAR10

        return CIFAR10(root, download=True)

    return LAYOUT.sources(request, fetch)


def read(request: DataRequest) -> Source:
    """All 60,000 images in the batches' order, classes in torchvision's; its checksums are compared."""
    from torchvision.datasets import CIFAR10

    train, test = LAYOUT.open(request, lambda root: (CIFAR10(root, train=part) for part in (True, False)))
    splits = {
        "train": _split(train.data, train.targets, "training"),
        "test": _split(test.data, test.targets, "test"),
    }
    return Source(tuple(train.classes), splits)


def _split(images: np.ndarray, labels: list[int], word: str) -> Split:
    return Split(np.array(labels, np.int64), images.__getitem__, lambda i: f"CIFAR-10's {word} image {i}")

"""STL-10's labelled images in their binary files (stl10_binary), read by torchvision.

The files store each colour plane column by column; torchvision transposes them. The 100,000 unlabelled images
are neither read nor needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.readers.source import Source, Split
from trainables.data.readers.torchvision_sets import TorchvisionSet

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest


def _load(root: str, split: str, *, download: bool = False) -> Any:
    """Return torchvision's data set of a split, which checks the files' checksums."""
    return labelled_stl10()(root, split=split, download=download)


STL10_FILES = TorchvisionSet(
    title="STL-10",
    folder="stl10_binary",
    files=("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt"),
    address="https://cs.stanford.edu/~acoates/stl10/",
    archive="stl10_binary.tar.gz",
    load=_load,
)


def sources(request: DataRequest) -> list[str]:
    """Return the files of the labelled parts; raise Mistake if they are missing and may not be downloaded."""
    return STL10_FILES.sources(request)


def read(request: DataRequest) -> Source:
    """Return the 5,000 training and 8,000 test images in the files' order.

    Raise Mistake if a file's checksum is wrong.
    """
    train, test = STL10_FILES.open_splits(request)
    return Source(tuple(train.classes), {"train": _split(train, "training"), "test": _split(test, "test")})


def labelled_stl10() -> Any:
    """Return torchvision's class for STL-10 without its check of the unlabelled images, which take 2.6 GB."""
    from torchvision.datasets import STL10  # its import takes a second or more, and cached data needs none

    class LabelledSTL10(STL10):  # type: ignore[misc]
        train_list = STL10.train_list[:2]

    return LabelledSTL10


def _split(found: Any, word: str) -> Split:
    images = found.data  # uint8 (n, 3, 96, 96)
    labels = found.labels.astype(np.int64)
    return Split(labels, lambda i: images[i].transpose(1, 2, 0), lambda i: f"STL-10's {word} image {i}")

"""STL-10's labelled images in their binary files, as torchvision reads them (stl10_binary).

The files store each colour plane column by column; torchvision turns them upright. The 100,000 unlabelled
images are neither read nor needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.readers.source import Source, Split
from trainables.data.readers.torchvision_sets import Layout

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

LAYOUT = Layout(
    title="STL-10",
    folder="stl10_binary",
    files=("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt"),
    address="https://cs.stanford.edu/~acoates/stl10/",
    archive="stl10_binary.tar.gz",
)


def sources(request: DataRequest) -> list[str]:
    """The labelled parts' files; raises Mistake where they are missing and may not be downloaded."""

    def fetch(root: str) -> object:
        return labelled_stl10()(root, download=True)

    return LAYOUT.sources(request, fetch)


def read(request: DataRequest) -> Source:
    """The 5,000 training and 8,000 test images in the files' order; checksums are compared."""
    opener = labelled_stl10()
    train, test = LAYOUT.open(
        request, lambda root: (opener(root, split=split) for split in ("train", "test"))
    )
    return Source(tuple(train.classes), {"train": _split(train, "training"), "test": _split(test, "test")})


def labelled_stl10() -> Any:
    """torchvision's class for STL-10, less the demand for the 2.6 GB of unlabelled images."""
    from torchvision.datasets import STL10

    class LabelledSTL10(STL10):
        train_list = STL10.train_list[:2]

    return LabelledSTL10


def _split(found: Any, word: str) -> Split:
    images = found.data  # uint8 (n, 3, 96, 96)
    labels = found.labels.astype(np.int64)
    return Split(labels, lambda i: images[i].transpose(1, 2, 0), lambda i: f"STL-10's {word} image {i}")

"""scikit-learn's 1,797 handwritten digits, 8x8 and greyscale, which need no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainables.data.readers.source import Source, Split, set_aside

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

TEST_SHARE = 0.4
EMBEDDED = "The digits come with scikit-learn"


def sources(request: DataRequest) -> list[str]:
    """Return no files: the images come with scikit-learn."""
    return []


def read(request: DataRequest) -> Source:
    """Return all images, values 0..16 scaled to 0..255; a fixed, stratified 40% of them is the test split."""
    from sklearn.datasets import load_digits  # its import takes seconds, and cached data needs none

    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    whole = Split(labels, lambda i: images[i], lambda i: f"digit {i}")
    train, test = set_aside(labels, TEST_SHARE)
    names = tuple(str(name) for name in found.target_names)
    return Source(names, {"train": whole.taking(train), "test": whole.taking(test)})

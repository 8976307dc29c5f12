"""What a reader hands over: the classes, and the images of both splits with their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.readers.pixels import Item, open_image
from trainables.mistake import Mistake

SPLITS = ("train", "test")
FEWEST_CLASSES = 2
TEST_SHARE = 0.2
"""Share of the images that is set aside where a data set has no test split."""
SPLIT_SEED = 20200207


@dataclass(frozen=True)
class Split:
    """One split in its original order: int64 labels (n,), and by position an image and its name."""

    labels: np.ndarray
    item: Callable[[int], Item]
    name: Callable[[int], str]

    def load(self, position: int) -> Image.Image:
        """The decoded image at a position, as it stands in the file."""
        return open_image(self.item(position))

    def taking(self, positions: np.ndarray) -> Split:
        """The split that holds these positions of this one, in this order."""
        at = positions.tolist()
        return Split(self.labels[positions], lambda i: self.item(at[i]), lambda i: self.name(at[i]))


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it: `splits` has "train" and "test".

    `oriented` says whether an orientation that a camera noted in the file (EXIF) is to be applied.
    """

    class_names: tuple[str, ...]
    splits: dict[str, Split]
    oriented: bool = True

    def counts(self, split: str) -> tuple[int, ...]:
        """Images of each class."""
        found = np.bincount(self.splits[split].labels, minlength=len(self.class_names))
        return tuple(int(count) for count in found)


def set_aside(labels: np.ndarray, share: float, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Positions that stay and positions set aside, both rising: a seeded share of each label.

    Of a label with at least two images, at least one stays and at least one is set aside.
    """
    random = np.random.default_rng(seed)
    kept, aside = [], []
    for label in np.unique(labels):
        positions = random.permutation(np.flatnonzero(labels == label))
        held = min(max(1, round(len(positions) * share)), len(positions) - 1)
        aside.append(positions[:held])
        kept.append(positions[held:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(aside))


def with_test_part(class_names: tuple[str, ...], whole: Split, *, oriented: bool = True) -> Source:
    """The source of a data set without a test split: a seeded, stratified 20% becomes the test split."""
    counts = np.bincount(whole.labels, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if count < 2:
            raise Mistake(
                f"The class {name!r} has {count} image: without a test split {TEST_SHARE:.0%} of each class "
                "is set aside for the test, so each needs at least 2; add images or a test split."
            )
    train, test = set_aside(whole.labels, TEST_SHARE)
    return Source(class_names, {"train": whole.taking(train), "test": whole.taking(test)}, oriented)


def files_under(folder: str | Path) -> Iterator[str]:
    """Paths of all files below a folder, sorted by path; hidden ones left out, links followed once."""
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.join(here, name)

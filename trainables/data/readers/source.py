"""The result of a reader: the classes, and the images of both splits with their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.data.readers.grouping import groups_aside
from trainables.data.readers.pixels import Item
from trainables.mistake import Mistake, escaped

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

SPLITS = ("train", "test")
FEWEST_CLASSES = 2
TEST_SHARE = 0.2
"""Share of the images that is set aside if a data set has no test split."""
SPLIT_SEED = 20200207
LONGEST_NAME = 255
"""Most characters of a class's name: as many as a folder's name can have."""


@dataclass(frozen=True)
class Split:
    """A split in its original order: labels, int64 (n,), and each position's image and its name.

    The name is for messages; `is_file` says whether it is the path of the image's own file. Images that are
    no files may have names of their own, `own_names`, such as the files that they once were. `groups` has
    each position's group, if they were asked for.
    """

    labels: np.ndarray
    item: Callable[[int], Item]
    name: Callable[[int], str]
    is_file: bool = False
    own_names: Sequence[str] | None = None
    groups: Sequence[str] | None = None

    def taking(self, positions: np.ndarray) -> Split:
        """Return the split that consists of these positions of this one, in this order."""
        at = positions.tolist()
        item, name = (lambda i: self.item(at[i])), (lambda i: self.name(at[i]))
        own = None if self.own_names is None else [self.own_names[i] for i in at]
        groups = None if self.groups is None else [self.groups[i] for i in at]
        return Split(self.labels[positions], item, name, self.is_file, own, groups)

    def files(self, folder: str) -> list[str] | None:
        """Return each position's file, relative to a folder, or its own name; None if there is neither.

        What is no text in a name, since it is not UTF-8, is written as escapes.
        """
        if not self.is_file:
            return None if self.own_names is None else list(self.own_names)
        names = (Path(self.name(i)) for i in range(len(self.labels)))
        relative = (os.path.relpath(name, folder).replace(os.sep, "/") for name in names)
        return [name.encode(errors="backslashreplace").decode() for name in relative]


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it: `splits` has "train" and "test".

    `oriented` says whether to apply the orientation that a camera noted in a file (EXIF).
    """

    class_names: tuple[str, ...]
    splits: dict[str, Split]
    oriented: bool = True

    def counts(self, split: str) -> tuple[int, ...]:
        """Return the number of images of each class."""
        found = np.bincount(self.splits[split].labels, minlength=len(self.class_names))
        return tuple(int(count) for count in found)


def check_source(source: Source, request: DataRequest) -> None:
    """Raise Mistake if the source lacks classes or images, or is not the benchmark that is requested."""
    where = f"The data for {request.name} at {request.path}"
    names = source.class_names
    check_names(names, request.path)
    if request.groups and any(source.splits[split].groups is None for split in SPLITS):
        raise Mistake(
            f"--groups {request.groups!r} has no use for {request.name}: groups are told by the paths of an "
            "image folder, or by a column of Parquet files; leave it out."
        )
    if len(names) < FEWEST_CLASSES:
        found = f"only the class {names[0]!r}" if names else "no class"
        raise Mistake(
            f"{where} holds {found}: holding a class out takes at least {FEWEST_CLASSES} classes, better "
            "three, so that two are left to tell apart; check that --data names the folder above the classes."
        )
    if request.classes is not None:
        _check_classes(names, request.classes, request.name, where)
    wanted = {"train": request.train_counts, "test": request.test_counts}
    for split in SPLITS:
        counts = dict(zip(names, source.counts(split), strict=True))
        expected = wanted[split]
        for place, name in enumerate(request.classes or names):
            if counts[name] == 0:
                raise Mistake(f"{where} has no {split} images of the class {name!r}: every class needs some.")
            if expected is not None and counts[name] != expected[place]:
                raise Mistake(
                    f"{where} has {counts[name]} {split} images of the class {name!r} where the benchmark "
                    f"has {expected[place]}: the data is incomplete or another; fetch it again."
                )


def check_names(names: Iterable[str], path: str | Path) -> None:
    """Raise Mistake for a class name that tables, records and terminals could not show as it is."""
    for name in names:
        if not name or len(name) > LONGEST_NAME or escaped(name) != name:
            long = f"{name[:40]!r}... ({len(name)} characters)" if len(name) > LONGEST_NAME else repr(name)
            raise Mistake(
                f"{path} has a class called {long}, which cannot be a class's name: rename it to 1 to "
                f"{LONGEST_NAME} characters of UTF-8 text on one line (a class is called as its folder or "
                "its label is)."
            )


def _check_classes(found: tuple[str, ...], wanted: tuple[str, ...], benchmark: str, where: str) -> None:
    differences = []
    missing = [name for name in wanted if name not in found]
    if missing:
        differences.append(f"lacks {', '.join(missing)}")
    extra = [name for name in found if name not in wanted]
    if extra:
        differences.append(f"also holds {', '.join(extra)}")
    if differences:
        raise Mistake(
            f"{where} is not that benchmark's: it {' and '.join(differences)}; point --data at {benchmark}'s "
            "own data, or use the benchmark image-folder for other images."
        )


def set_aside(labels: np.ndarray, share: float, seed: int = SPLIT_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions that stay and those set aside, a seeded share of each label, both sorted.

    Of a label with at least two images, at least one stays and at least one is set aside.
    """
    random = np.random.default_rng(seed)
    kept, aside = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for label in np.unique(labels):
        positions = random.permutation(np.flatnonzero(labels == label))
        held = min(max(1, round(len(positions) * share)), len(positions) - 1)
        aside.append(positions[:held])
        kept.append(positions[held:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(aside))


def with_test_part(class_names: tuple[str, ...], whole: Split, *, oriented: bool = True) -> Source:
    """Return the source of a data set without a test split: a seeded, stratified 20% becomes one.

    Images of one group stay together. Raise Mistake for a class with fewer than two images, or groups.
    """
    counts = np.bincount(whole.labels, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if count < 2:
            raise Mistake(
                f"The class {name!r} has {count} image: without a test split {TEST_SHARE:.0%} of each class "
                "is set aside for the test, so each needs at least 2; add images or a test split."
            )
    if whole.groups is None:
        train, test = set_aside(whole.labels, TEST_SHARE)
    else:
        wanted = [max(1, round(count * TEST_SHARE)) for count in counts.tolist()]
        aside = groups_aside(whole.labels, whole.groups, wanted, np.random.default_rng(SPLIT_SEED))
        train, test = np.flatnonzero(~aside), np.flatnonzero(aside)
        for label, name in enumerate(class_names):
            if not (whole.labels[train] == label).any() or not (whole.labels[test] == label).any():
                raise Mistake(
                    f"The groups of the class {name!r} cannot be divided into training and test images: each "
                    "class needs some that leave images of every class on both sides; add a test split."
                )
    return Source(class_names, {"train": whole.taking(train), "test": whole.taking(test)}, oriented)


def files_under(folder: str | Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, sorted by folder and name, without hidden files.

    Links to folders are followed, but no folder is listed twice. Raise OSError for one that cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    ahead = [os.fspath(folder)]
    while ahead:
        here = ahead.pop()
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        files, folders = [], []
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not _is_folder(entry):
                    files.append(entry.path)
                elif not entry.name.startswith("__MACOSX"):
                    folders.append(entry.path)
        yield from sorted(files)
        ahead += sorted(folders, reverse=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, which whoever opens it names
        return False

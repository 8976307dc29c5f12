"""Any folder of images with a folder per class: <split>/<class>/<image>, or only <class>/<image>.

The splits are train and test, or val if test has no class folders. Images may lie deeper inside their class;
hidden files and files that are not images are ignored. Without a test split, a seeded 20% of each class is
set aside for it. pixels.py handles colours, transparency (laid on white), 16 bits and a camera's orientation.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.data.readers.grouping import groups_of_paths
from trainables.data.readers.source import Source, Split, check_names, files_under, with_test_part
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

EXTENSIONS = {
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
}  # fmt: skip
TEST_FOLDERS = ("test", "val")
WANTED = (
    "give --data a folder of <split>/<class>/<image> with the splits train and test or val, or of "
    "<class>/<image>, or Parquet files with an image and a label column"
)


def sources(request: DataRequest) -> list[str]:
    """Return the folders that are read; raise Mistake if there are none."""
    train, test = _split_folders(Path(request.path))
    return [str(folder) for folder in (train, test) if folder is not None]


def read(request: DataRequest) -> Source:
    """Return the images by path, class after class, with the classes sorted by name.

    Raise Mistake for a class without images.
    """
    train, test = _split_folders(Path(request.path))
    found = [_images_by_class(folder) for folder in (train, test) if folder is not None]
    classes = tuple(sorted(set().union(*found)))
    check_names(classes, request.path)
    for name in classes:
        if not any(images.get(name) for images in found):
            raise Mistake(
                f"The folder of the class {name!r} in {train} holds no image (files named "
                f"{', '.join(sorted(EXTENSIONS))}): add some or remove the folder."
            )
    splits = [split_of(images, classes) for images in found]
    if request.groups:
        splits = [_grouped(split, request) for split in splits]
    if test is None:
        return with_test_part(classes, splits[0])
    return Source(classes, {"train": splits[0], "test": splits[1]})


def split_of(images: dict[str, list[str]], classes: tuple[str, ...]) -> Split:
    """Return a split of image files, class after class."""
    paths = [path for name in classes for path in images.get(name, [])]
    counts = [len(images.get(name, [])) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return Split(labels, paths.__getitem__, paths.__getitem__, is_file=True)


def _grouped(split: Split, request: DataRequest) -> Split:
    """Return a split with the groups that the request's pattern tells from paths below the source's."""
    return replace(split, groups=groups_of_paths(request.groups, split.files(request.path) or ()))


def image_files(folder: Path) -> list[str]:
    """Return the image files below a folder, sorted by folder and name."""
    return [path for path in files_under(folder) if Path(path).suffix.lower() in EXTENSIONS]


def _images_by_class(folder: Path) -> dict[str, list[str]]:
    return {inner.name: image_files(inner) for inner in _folders(folder)}


def _split_folders(root: Path) -> tuple[Path, Path | None]:
    """Return the folders of the training and the test images; the latter is None if there is none."""
    if not root.is_dir():
        what = "is a file of no known kind" if os.path.lexists(root) else "does not exist"
        raise Mistake(f"{root} {what}: {WANTED}.")
    test = next((root / name for name in TEST_FOLDERS if _folders(root / name)), None)
    train = root / "train"
    if not train.is_dir():
        if any((root / name).is_dir() for name in TEST_FOLDERS):
            raise Mistake(f"{root} has test images but no folder train: {WANTED}.")
        train, test = root, None
    if not _folders(train):
        raise Mistake(f"{train} holds no folder of a class: {WANTED}.")
    return train, test


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))

"""Requests for data in a certain form."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainables.mistake import Mistake


@dataclass(frozen=True)
class DataRequest:
    """The data that is wanted and its form: all that a process needs to open or prepare it."""

    reader: str
    """Module of trainables.data.readers, or the name of a benchmark that a plug-in's function reads.

    Parquet files, if there are any, are read by `parquet` instead of another module.
    """
    path: str
    """Path of the source, as --data gives it."""
    side: int
    """Height and width in pixels of the prepared images."""
    channels: int
    """1 for greyscale, 3 for RGB."""
    cache: str = ""
    """Folder of prepared data; "" is the user's cache folder."""
    download: bool = False
    """Whether missing files may be downloaded."""
    skip_bad_images: bool = False
    """Whether images that cannot be read are left out."""
    classes: tuple[str, ...] | None = None
    """Required classes in their order, or None if the source determines them."""
    train_counts: tuple[int, ...] | None = None
    """Required number of training images of each class."""
    test_counts: tuple[int, ...] | None = None
    """Required number of test images of each class."""
    name: str = ""
    """The benchmark's name, which also names its Parquet files."""
    groups: str = ""
    """What tells an image's group, of which all images stay on one side of a split: a pattern of paths below
    the source's, or a column of Parquet files. "" if every image is by itself."""

    @property
    def cache_folder(self) -> Path:
        """Folder of prepared data."""
        if self.cache:
            return Path(self.cache).expanduser().absolute()
        return _substitute() if self.cache_is_elsewhere else _usual()

    @property
    def cache_is_elsewhere(self) -> bool:
        """Whether none was named, and the user's cache folder cannot be written, as in a read-only home."""
        usual = _usual()
        return not self.cache and not usual.is_dir() and not _can_be_made(usual)


def _usual() -> Path:
    """Return the folder of prepared data in the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "holdout-sweeps"


def _can_be_made(folder: Path) -> bool:
    """Return whether a folder that does not exist can be made, as far as permissions tell."""
    there = next(parent for parent in folder.parents if os.path.lexists(parent))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _substitute() -> Path:
    """Return a temporary folder of this user's; raise Mistake if it is somebody else's."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"holdout-sweeps-{user}")
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != user):
        raise Mistake(
            f"The folder for prepared data, {_usual()}, cannot be written, and {folder} is not yours: name "
            "another one with --cache."
        )
    return folder

"""Requests for data in a certain form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


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

    @property
    def cache_folder(self) -> Path:
        """Folder of prepared data."""
        if self.cache:
            return Path(self.cache).expanduser().absolute()
        given = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "holdout-sweeps"

"""What data is wanted, and in what form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataRequest:
    """What data is wanted and in what form; what any process needs to open it, or to prepare it."""

    reader: str
    """Module of trainables.data.readers; Parquet files, where there are any, are read by `parquet`."""
    path: str
    side: int
    """Height and width in pixels of the prepared images."""
    channels: int
    """1 for greyscale, 3 for RGB."""
    cache: str = ""
    """Folder of prepared data; "" is the user's cache folder."""
    download: bool = False
    skip_bad_images: bool = False
    classes: tuple[str, ...] | None = None
    train_counts: tuple[int, ...] | None = None
    """Images of each class, checked where given."""
    test_counts: tuple[int, ...] | None = None
    name: str = ""
    """The benchmark's name, which also names its Parquet files."""

    @property
    def cache_folder(self) -> Path:
        """Where prepared data stands."""
        if self.cache:
            return Path(self.cache).expanduser().absolute()
        given = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "holdout-sweeps"

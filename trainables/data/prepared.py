"""A prepared data set: a folder with train.arrow, test.arrow (image_file.py) and manifest.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables.data import image_file
from trainables.data.access_log import AccessLog
from trainables.data.file_errors import explained
from trainables.data.image_table import ImageTable
from trainables.data.readers.regular_file import open_file
from trainables.data.readers.source import SPLITS
from trainables.mistake import Mistake, unknown

MANIFEST = "manifest.json"
DIGEST = "digest"
"""The manifest's key for the digest of all that it says elsewhere."""


@dataclass(frozen=True)
class Repeated:
    """How many test images are in the training split, too, and the names of the first few pairs.

    A pair is a test image and a training image. Of data that an earlier version prepared it is not known.
    """

    count: int
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: its description, and the means to open parts of it.

    `fingerprint` identifies the content independently of its source: class names, shape, labels, pixels and
    order of both splits. `counts` and `digests` have a value per class for each split. `skipped` names the
    images that could not be read and were left out, `repeated` the test images that are equal to a training
    image in every prepared pixel. `test_files` has the file of each test image, below the folder that --data
    named, or the name that its row of a Parquet file has, in the split's original order; None if images have
    neither, and for data that version 0.1 prepared.
    """

    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    fingerprint: str
    side: int
    channels: int
    skipped: tuple[str, ...]
    folder: Path = field(repr=False)
    digests: dict[str, tuple[str, ...]] = field(repr=False)
    lengths: dict[str, int] = field(repr=False)
    """Bytes of each split's file: one that was cut must not be mapped, which would kill the process."""
    test_files: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    repeated: Repeated = field(default_factory=lambda: Repeated(0, ()), repr=False, compare=False)
    train_groups: tuple[tuple[str, ...], ...] | None = field(default=None, repr=False, compare=False)
    """Of each class the groups of its training images, in the order of its rows; None without groups."""
    groups_in_both: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Groups that have training images and test images, if the data came with both."""
    access_log: AccessLog | None = field(default=None, repr=False, compare=False)

    def with_access_log(self, access_log: AccessLog) -> Prepared:
        """Return the same data with every table that is opened added to an access log."""
        return replace(self, access_log=access_log)

    def open(self, split: str, classes: tuple[str, ...] | None = None) -> ImageTable:
        """Map the images of one split and these classes (all if None), and no others.

        Raise Mistake for a class that does not exist, and if the file was altered or cannot be opened.
        """
        for name in classes or ():
            if name not in self.classes:
                raise unknown("class", name, self.classes)
        names = [name for name in self.classes if classes is None or name in classes]
        try:
            with explained(self.folder.parent):
                opened = self._map(split, names)
        except image_file.DamagedError as error:
            raise Mistake(
                f"The prepared data in {self.folder} was altered ({error}): delete that folder and run "
                "again, which prepares it anew."
            ) from error
        table = ImageTable.of(split, opened)
        if self.access_log is not None:
            self.access_log.add(table)
        return table

    def verify(self) -> None:
        """Read every image; raise image_file.DamagedError if one differs from what was prepared."""
        for split in SPLITS:
            image_file.verify(self._map(split, self.classes))

    def _map(self, split: str, names: Sequence[str]) -> list[image_file.OpenedClass]:
        path = self.folder / f"{split}.arrow"
        if path.stat().st_size != self.lengths[split]:
            raise image_file.DamagedError(f"{path} does not have its length")
        opened = image_file.open_classes(str(path), split, names)
        for each in opened:
            if each.digest != self.digests[split][self.classes.index(each.name)]:
                raise image_file.DamagedError(f"{each.name!r} is not what was prepared")
        return opened


def digest(manifest: Mapping[str, object]) -> str:
    """Return the SHA-256 of a manifest without its own digest."""
    described = {name: value for name, value in manifest.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _repeated(stated: Mapping[str, Any] | None) -> Repeated:
    """Return what a manifest says of images that are in both splits."""
    if stated is None:
        return Repeated(0, ())
    return Repeated(int(stated["count"]), tuple((str(test), str(train)) for test, train in stated["pairs"]))


def _groups(manifest: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, groups)) for groups in manifest["train_groups"])


def open_folder(folder: Path) -> Prepared:
    """Return the data set in a folder, as its manifest describes it.

    Raise image_file.DamagedError if the manifest does not match its own fingerprint or a file does not have
    its length, and OSError if the folder may be sound but cannot be read. No image file is opened: a search
    run must not need the test file.
    """
    try:
        with open_file(str(folder / MANIFEST)) as file:
            manifest = json.load(file)
        unsigned = DIGEST not in manifest and "test_files" not in manifest  # as version 0.1 wrote it
        if not unsigned and manifest[DIGEST] != digest(manifest):
            raise image_file.DamagedError(f"{folder}: {MANIFEST} is not as it was written")
        if manifest["fingerprint"] != image_file.fingerprint(manifest):
            raise image_file.DamagedError(f"{folder}: the fingerprint is not that of the content")
        for split in SPLITS:
            if (folder / f"{split}.arrow").stat().st_size != manifest["bytes"][split]:
                raise image_file.DamagedError(f"{folder}: {split}.arrow does not have its length")
        return Prepared(
            classes=tuple(manifest["classes"]),
            counts={split: tuple(manifest["counts"][split]) for split in SPLITS},
            fingerprint=manifest["fingerprint"],
            side=manifest["side"],
            channels=manifest["channels"],
            skipped=tuple(manifest["skipped"]),
            folder=folder,
            train_groups=_groups(manifest) if "train_groups" in manifest else None,
            groups_in_both=tuple(manifest.get("groups_in_both", ())),
            repeated=_repeated(manifest.get("repeated")),
            test_files=tuple(manifest["test_files"]) if "test_files" in manifest else None,
            digests={split: tuple(manifest["digests"][split]) for split in SPLITS},
            lengths={split: manifest["bytes"][split] for split in SPLITS},
        )
    except image_file.UNSOUND as error:
        if not image_file.means_damage(error):
            raise
        raise image_file.DamagedError(f"{folder}: {error}") from error

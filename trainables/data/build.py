"""Building a prepared folder: decode a source's images class by class, and write them with a manifest."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.data import image_file
from trainables.data.prepared import DIGEST, MANIFEST, digest
from trainables.data.readers.decoding import BATCH, Decoders, Failure, Form, usable_cpus
from trainables.data.readers.source import SPLITS, Source, Split
from trainables.heartbeat import beat
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

PREPARING = "preparing the data"
PAIRS_NAMED = 3
"""How many images that are in both splits are named."""

FEW_IMAGES = 256
"""Number of images below which starting decoding processes does not pay."""


def write_folder(
    source: Source, request: DataRequest, folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Decode all images of a source and write them, with the manifest, into an empty folder.

    `progress(done, total)` counts images. Raise Mistake for an image that cannot be read, unless the request
    skips such images, and for a class without a readable image.
    """
    classes = request.classes or source.class_names
    total = sum(len(source.splits[split].labels) for split in SPLITS)
    form = Form(request.side, request.channels, source.oriented)
    with Decoders(form, _decoding_processes(source, total)) as decoders:
        counter = _Counter(progress, total)
        seen = _Seen()
        written = {
            split: _write_split(request, source, split, folder, decoders, counter, seen) for split in SPLITS
        }
    manifest: dict[str, object] = {
        "format": image_file.FORMAT,
        "name": request.name,
        "classes": classes,
        "side": request.side,
        "channels": request.channels,
        "counts": {split: written[split].counts for split in SPLITS},
        "digests": {split: written[split].digests for split in SPLITS},
        "bytes": {split: written[split].bytes for split in SPLITS},
        "skipped": [name for split in SPLITS for name in written[split].skipped],
    }
    if request.groups:
        manifest["train_groups"] = written["train"].groups
        manifest["groups_in_both"] = sorted(
            {name for groups in written["train"].groups for name in groups}
            & {name for groups in written["test"].groups for name in groups}
        )
    manifest["fingerprint"] = image_file.fingerprint(manifest)
    if seen.count:
        test, train = source.splits["test"], source.splits["train"]
        pairs = [[test.name(row), train.name(equal)] for row, equal in seen.pairs]
        manifest["repeated"] = {"count": seen.count, "pairs": pairs}
    files = source.splits["test"].files(request.path)
    if files is not None:
        manifest["test_files"] = files
    manifest[DIGEST] = digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@dataclass
class _WrittenSplit:
    """A split's file: counts, digests and groups by class, its length in bytes, and the images left out."""

    counts: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    """Of each class each image's group, if groups were asked for."""
    bytes: int = 0


class _Seen:
    """The images that were written, by which test images are found that are training images, too."""

    def __init__(self) -> None:
        self.count = 0
        self.pairs: list[tuple[int, int]] = []
        """Rows of the first few such test images, each with the row of an equal training image."""
        self._rows: dict[bytes, int] = {}

    def add(self, split: str, pixels: np.ndarray, rows: np.ndarray) -> None:
        """Take note of training images, uint8 (n, H, W, C), or look test images up; `rows` are theirs."""
        for image, row in zip(pixels, rows.tolist(), strict=True):
            digest = hashlib.blake2b(image.data, digest_size=16).digest()
            if split == "train":
                self._rows.setdefault(digest, row)
            elif digest in self._rows:
                self.count += 1
                if len(self.pairs) < PAIRS_NAMED:
                    self.pairs.append((row, self._rows[digest]))


def _write_split(
    request: DataRequest,
    source: Source,
    split: str,
    folder: Path,
    decoders: Decoders,
    counter: _Counter,
    seen: _Seen,
) -> _WrittenSplit:
    classes = request.classes or source.class_names
    images = source.splits[split]
    path = folder / f"{split}.arrow"
    written = _WrittenSplit()
    with image_file.SplitWriter(str(path), split, classes, request.side, request.channels) as writer:
        # While a class is written the next one is decoded; no more than these two are in memory.
        begun: deque[_Decoding] = deque()
        for name in (*classes, None):
            if name is not None:
                rows = np.flatnonzero(images.labels == source.class_names.index(name))
                begun.append(_begin(name, images, rows, decoders, counter))
            beat(PREPARING)
            if name is None or len(begun) > 1:
                _write_class(request, split, images, begun.popleft(), writer, written, seen)
    written.bytes = path.stat().st_size
    return written


@dataclass
class _Decoding:
    """A class that is being decoded into its pixels, uint8 (n, side, side, channels)."""

    name: str
    rows: np.ndarray
    pixels: np.ndarray
    futures: list[Future[list[Failure]]]


def _begin(name: str, images: Split, rows: np.ndarray, decoders: Decoders, counter: _Counter) -> _Decoding:
    form = decoders.form
    pixels = np.empty((len(rows), form.side, form.side, form.channels), np.uint8)
    return _Decoding(name, rows, pixels, decoders.submit(images.item, rows, pixels, counter.add))


def _write_class(
    request: DataRequest,
    split: str,
    images: Split,
    decoding: _Decoding,
    writer: image_file.SplitWriter,
    written: _WrittenSplit,
    seen: _Seen,
) -> None:
    failures = [failure for future in decoding.futures for failure in future.result()]
    rows, pixels = decoding.rows, decoding.pixels
    if failures:
        bad = _places_to_skip(images, rows, failures, request)
        written.skipped += [images.name(int(row)) for row in rows[bad]]
        pixels, rows = np.delete(pixels, bad, axis=0), np.delete(rows, bad)
    if not len(rows):
        raise Mistake(f"No {split} image of the class {decoding.name!r} can be read: replace them.")
    seen.add(split, pixels, rows)
    written.digests.append(writer.write(decoding.name, pixels, rows))
    written.counts.append(len(rows))
    if images.groups is not None:
        written.groups.append([images.groups[row] for row in rows.tolist()])


def _places_to_skip(
    images: Split, rows: np.ndarray, failures: list[Failure], request: DataRequest
) -> list[int]:
    """Return the places of unreadable images if the request skips them; otherwise raise Mistake."""
    unreachable = [failure for failure in failures if failure.unreachable]
    worst = (unreachable or failures)[0]
    name = images.name(int(rows[worst.place]))
    if unreachable:
        raise Mistake(f"{name} cannot be read ({worst.reason}): check the disk and the file's permissions.")
    if not request.skip_bad_images:
        others = f" ({len(failures) - 1} more like it in its class)" if len(failures) > 1 else ""
        raise Mistake(
            f"{name} is not an image that can be read ({worst.reason}){others}: replace it, or go on without "
            "such images with --set skip_bad_images=true."
        )
    return [failure.place for failure in failures]


def _decoding_processes(source: Source, total: int) -> int:
    """Return the number of decoding processes: 0 if images are few or decoded, or there is only one CPU.

    There are at most as many as batches: on a large machine most would start for nothing.
    """
    decoded = isinstance(source.splits["train"].item(0), np.ndarray)
    if total < FEW_IMAGES or usable_cpus() < 2 or decoded:
        return 0
    counts = [count for split in SPLITS for count in source.counts(split)]
    return min(usable_cpus(), sum(math.ceil(count / BATCH) for count in counts))


class _Counter:
    """A count of finished images from several threads, reported about ten times per second."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._reported = time.monotonic()
        self._lock = threading.Lock()

    def add(self, images: int) -> None:
        beat(PREPARING)
        with self._lock:
            self._done += images
            due = time.monotonic() - self._reported >= 0.1 or self._done == self._total
            if self._progress is not None and due:
                self._reported = time.monotonic()
                self._progress(self._done, self._total)

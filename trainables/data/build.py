"""Building a prepared folder: decode a source's images class by class, and write them with a manifest."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.data import image_file
from trainables.data.prepared import MANIFEST
from trainables.data.readers.decoding import BATCH, Decoders, Failure, Form, usable_cpus
from trainables.data.readers.source import SPLITS, Source, Split
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

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
        written = {split: _write_split(request, source, split, folder, decoders, counter) for split in SPLITS}
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
    manifest["fingerprint"] = image_file.fingerprint(manifest)
    files = source.splits["test"].files(request.path)
    if files is not None:
        manifest["test_files"] = files
    (folder / MANIFEST).write_text(json.dumps(manifest))


@dataclass
class _WrittenSplit:
    """A split's file: counts and digests by class, its length in bytes, and the images left out."""

    counts: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    bytes: int = 0


def _write_split(
    request: DataRequest, source: Source, split: str, folder: Path, decoders: Decoders, counter: _Counter
) -> _WrittenSplit:
    classes = request.classes or source.class_names
    images = source.splits[split]
    rows_by_class = [np.flatnonzero(images.labels == source.class_names.index(name)) for name in classes]
    path = folder / f"{split}.arrow"
    written = _WrittenSplit()
    with image_file.SplitWriter(str(path), split, classes, request.side, request.channels) as writer:
        decoded = _decode_classes(images, rows_by_class, decoders, counter)
        for name, rows, (pixels, failures) in zip(classes, rows_by_class, decoded, strict=True):
            if failures:
                bad = _places_to_skip(images, rows, failures, request)
                written.skipped += [images.name(int(row)) for row in rows[bad]]
                pixels, rows = np.delete(pixels, bad, axis=0), np.delete(rows, bad)
            if not len(rows):
                raise Mistake(f"No {split} image of the class {name!r} can be read: replace them.")
            written.digests.append(writer.write(name, pixels, rows))
            written.counts.append(len(rows))
    written.bytes = path.stat().st_size
    return written


def _decode_classes(
    images: Split, rows_by_class: list[np.ndarray], decoders: Decoders, counter: _Counter
) -> Iterator[tuple[np.ndarray, list[Failure]]]:
    """Yield each class's pixels, uint8 (n, side, side, channels), while the next class is decoded."""
    form = decoders.form
    begun: deque[tuple[np.ndarray, list[Future[list[Failure]]]]] = deque()
    for place in range(len(rows_by_class) + 1):
        if place < len(rows_by_class):
            rows = rows_by_class[place]
            pixels = np.empty((len(rows), form.side, form.side, form.channels), np.uint8)
            begun.append((pixels, decoders.submit(images.item, rows, pixels, counter.add)))
        if place > 0:
            pixels, futures = begun.popleft()
            yield pixels, [failure for future in futures for failure in future.result()]


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
        with self._lock:
            self._done += images
            due = time.monotonic() - self._reported >= 0.1 or self._done == self._total
            if self._progress is not None and due:
                self._reported = time.monotonic()
                self._progress(self._done, self._total)

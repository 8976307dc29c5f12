"""Making a prepared folder: check what the reader found, decode it class by class, write it down."""

from __future__ import annotations

import json
import math
import os
import platform
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from trainables.data import image_file
from trainables.data.readers.decoding import BATCH, Decoders, Failure, Form, usable_cpus
from trainables.data.readers.source import FEWEST_CLASSES, SPLITS, Source, Split
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

MANIFEST = "manifest.json"
FEW_IMAGES = 256
"""Images below which decoding processes are not worth their start."""
DEAD_AFTER = 3600.0
"""Seconds without a write after which another machine's unfinished folder counts as abandoned."""


def write_folder(
    request: DataRequest,
    reader: ModuleType,
    cache: Path,
    key: str,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Reads the source and writes all of it into a new, hidden folder of the cache; returns that folder."""
    source = reader.read(request)
    check_source(source, request)
    classes = request.classes or source.class_names
    folder = cache / f".{key}.{platform.node()}.{os.getpid()}.{secrets.token_hex(4)}.partial"
    folder.mkdir()
    try:
        total = sum(len(source.splits[split].labels) for split in SPLITS)
        form = Form(request.side, request.channels, source.oriented)
        manifest: dict[str, object] = {"format": image_file.FORMAT, "name": request.name, "classes": classes}
        manifest.update(side=request.side, channels=request.channels)
        parts = {}
        with Decoders(form, _processes(source, total)) as decoders:
            counter = _Counter(progress, total)
            for split in SPLITS:
                parts[split] = _write_split(request, source, split, folder, decoders, counter)
        for name in ("counts", "digests", "bytes"):
            manifest[name] = {split: parts[split][name] for split in SPLITS}
        manifest["skipped"] = [name for split in SPLITS for name in parts[split]["skipped"]]
        manifest["fingerprint"] = image_file.fingerprint(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def check_source(source: Source, request: DataRequest) -> None:
    """Raises Mistake where the source lacks classes or images, or is not the benchmark that was asked for."""
    where = f"The data for {request.name} at {request.path}"
    names = source.class_names
    if len(names) < FEWEST_CLASSES:
        found = f"only the class {names[0]!r}" if names else "no class"
        raise Mistake(
            f"{where} holds {found}: holding a class out takes at least {FEWEST_CLASSES} classes, better "
            "three, so that two are left to tell apart; check that --data names the folder above the classes."
        )
    if request.classes is not None and set(names) != set(request.classes):
        missing = [name for name in request.classes if name not in names]
        extra = [name for name in names if name not in request.classes]
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also holds {', '.join(extra)}"] * bool(
            extra
        )
        raise Mistake(
            f"{where} is not that benchmark's: it {' and '.join(said)}; point --data at {request.name}'s own "
            "data, or use the benchmark image-folder for other images."
        )
    order = request.classes or names
    wanted = {"train": request.train_counts, "test": request.test_counts}
    for split in SPLITS:
        counts = dict(zip(names, source.counts(split), strict=True))
        for place, name in enumerate(order):
            expected = wanted[split]
            if counts[name] == 0:
                raise Mistake(f"{where} has no {split} images of the class {name!r}: every class needs some.")
            if expected is not None and counts[name] != expected[place]:
                raise Mistake(
                    f"{where} has {counts[name]} {split} images of the class {name!r} where the benchmark "
                    f"has {expected[place]}: the data is incomplete or another; fetch it again."
                )


def clear_leftovers(cache: Path, key: str, alone: bool) -> None:
    """Removes what interrupted preparations left behind.

    With the lock held, an unfinished folder of this source and machine has lost its process. Others are
    judged by their age.
    """
    own = f".{key}.{platform.node()}."
    for folder in cache.glob(".*.partial*"):
        try:
            written = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
        except OSError:  # another process is removing it
            continue
        if (alone and folder.name.startswith(own)) or time.time() - written > DEAD_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def _processes(source: Source, total: int) -> int:
    """How many decoding processes: none where images are few or need no decoding, or there is one CPU.

    No more than there are batches to hand out: on a large machine most would start for nothing.
    """
    decoded = isinstance(source.splits["train"].item(0), np.ndarray)
    if total < FEW_IMAGES or usable_cpus() < 2 or decoded:
        return 0
    counts = [count for split in SPLITS for count in source.counts(split)]
    return min(usable_cpus(), sum(math.ceil(count / BATCH) for count in counts))


def _write_split(
    request: DataRequest, source: Source, split: str, folder: Path, decoders: Decoders, counter: _Counter
) -> dict[str, list]:
    """Writes one split's file; returns its counts and digests by class, its length and what was left out."""
    classes = request.classes or source.class_names
    images = source.splits[split]
    rows_by_class = [np.flatnonzero(images.labels == source.class_names.index(name)) for name in classes]
    path = folder / f"{split}.arrow"
    written: dict = {"counts": [], "digests": [], "skipped": []}
    with image_file.SplitWriter(str(path), split, classes, request.side, request.channels) as writer:
        decoded = _decoded(images, rows_by_class, decoders, counter)
        for name, rows, (pixels, failures) in zip(classes, rows_by_class, decoded, strict=True):
            if failures:
                bad = _bad_images(images, rows, failures, request)
                written["skipped"] += [images.name(int(row)) for row in rows[bad]]
                pixels, rows = np.delete(pixels, bad, axis=0), np.delete(rows, bad)
            if not len(rows):
                raise Mistake(f"No {split} image of the class {name!r} can be read: replace them.")
            written["digests"].append(writer.write(name, pixels, rows))
            written["counts"].append(len(rows))
    written["bytes"] = path.stat().st_size
    return written


def _decoded(
    images: Split, rows_by_class: list[np.ndarray], decoders: Decoders, counter: _Counter
) -> Iterator[tuple[np.ndarray, list[Failure]]]:
    """Each class's pixels, uint8 (n, side, side, channels); the next class is decoded meanwhile."""
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


def _bad_images(images: Split, rows: np.ndarray, failures: list[Failure], request: DataRequest) -> list[int]:
    """The places to leave out, where that was asked for; otherwise raises Mistake."""
    unreachable = [failure for failure in failures if failure.unreachable]
    worst = (unreachable or failures)[0]
    name = images.name(int(rows[worst.place]))
    if unreachable:
        raise Mistake(f"{name} cannot be read ({worst.reason}): check the disk and the file's rights.")
    if not request.skip_bad_images:
        others = f" ({len(failures) - 1} more like it in its class)" if len(failures) > 1 else ""
        raise Mistake(
            f"{name} is no image that can be read ({worst.reason}){others}: replace it, or go on without "
            "such images with --set skip_bad_images=true."
        )
    return [failure.place for failure in failures]


class _Counter:
    """Counts finished images from several threads and passes the count on about ten times a second."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def add(self, images: int) -> None:
        with self._lock:
            self._done += images
            due = time.monotonic() - self._told >= 0.1 or self._done == self._total
            if self._progress is not None and due:
                self._told = time.monotonic()
                self._progress(self._done, self._total)

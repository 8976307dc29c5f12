"""The file in which prepared images stand: an Arrow IPC file a split, one record batch a class.

Columns: `image`, a tensor of shape (side, side, channels) of uint8, and `index`, the image's position in
the split's original order. Each batch carries its class's name and digest. Any Arrow library reads it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

FORMAT = 1
"""Raised whenever a file of the same source would hold other bytes."""


class DamagedError(Exception):
    """A prepared file is cut, or does not hold what was written."""


@dataclass(frozen=True)
class OpenedClass:
    """A class's images, uint8 (n, H, W, C), mapped from the file, and their indices, int64 (n,)."""

    name: str
    pixels: np.ndarray
    indices: np.ndarray
    digest: str


def says_damage(error: Exception) -> bool:
    """Whether an error in reading prepared data means damage, and not a limit, a right or a disk.

    Arrow raises OSError without a number where content contradicts itself.
    """
    if isinstance(error, OSError):
        return error.errno in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return not isinstance(error, MemoryError)


def class_digest(indices: np.ndarray, pixels: np.ndarray) -> str:
    """The hash of a class's images and of where each stands in the split."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(indices, dtype="<i8").data)
    if pixels.size:
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def fingerprint(content: Mapping[str, Any]) -> str:
    """The hash of a data set's content, from its classes, shape, and the counts and digests of its splits."""
    named = ("classes", "side", "channels", "counts", "digests")
    described = json.dumps([content[name] for name in named], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


class SplitWriter:
    """Writes one split's file, class by class; a context that closes it."""

    def __init__(self, path: str, split: str, classes: Sequence[str], side: int, channels: int) -> None:
        self._image = pa.fixed_shape_tensor(pa.uint8(), (side, side, channels))
        about = {
            "format": FORMAT,
            "split": split,
            "classes": list(classes),
            "side": side,
            "channels": channels,
        }
        schema = pa.schema(
            [("image", self._image), ("index", pa.int64())], metadata={"holdout_sweeps": json.dumps(about)}
        )
        self._file = pa.OSFile(path, "wb")
        self._writer = pa.ipc.new_file(self._file, schema)
        self._schema = schema

    def write(self, name: str, pixels: np.ndarray, indices: np.ndarray) -> str:
        """Appends a class's images, uint8 (n, H, W, C), with their indices; returns their digest."""
        digest = class_digest(indices, pixels)
        flat = pa.array(pixels.reshape(-1))
        storage = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(pixels.shape[1:])))
        images = pa.ExtensionArray.from_storage(self._image, storage)
        batch = pa.record_batch([images, pa.array(indices, pa.int64())], schema=self._schema)
        about = {"class": json.dumps(name), "count": str(len(pixels)), "sha256": digest}
        self._writer.write_batch(batch, custom_metadata=about)
        return digest

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
        finally:
            self._file.close()


@dataclass(frozen=True)
class _Place:
    """Where a class stands: its batch's number, and the bytes of its images, start to stop, in the file."""

    name: str
    batch: int
    start: int
    shape: tuple[int, ...]
    indices: np.ndarray
    digest: str

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape))


def open_classes(path: str, split: str, classes: Sequence[str]) -> list[OpenedClass]:
    """Maps these classes of a split's file and no other, copy-on-write.

    Raises DamagedError, or OSError where the file may be whole but could not be opened or mapped. The file
    as a whole is mapped only while its table of contents is read, and until Arrow's threads have let go of
    it, some milliseconds later; nothing that is returned leads there.
    """
    try:
        places = _find_classes(path, split, classes)
        return [opened for neighbours in _neighbours(places) for opened in _map(path, neighbours)]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if says_damage(error):
            raise DamagedError(f"{path}: {error}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise


def _find_classes(path: str, split: str, classes: Sequence[str]) -> list[_Place]:
    with pa.memory_map(path) as file:
        base = file.read_buffer(1).address if file.size() else 0
        reader = pa.ipc.open_file(file)
        about = json.loads(reader.schema.metadata[b"holdout_sweeps"])
        if (about["format"], about["split"]) != (FORMAT, split):
            raise DamagedError(f"{path} holds {about['split']!r} images in format {about['format']}")
        numbers = {name: number for number, name in enumerate(about["classes"])}
        return [_find_class(path, reader, base, name, numbers[name]) for name in classes]


def _find_class(path: str, reader: pa.ipc.RecordBatchFileReader, base: int, name: str, number: int) -> _Place:
    batch = reader.get_batch_with_custom_metadata(number)
    about = batch.custom_metadata
    if json.loads(about[b"class"]) != name:
        raise DamagedError(f"{path} holds {about[b'class'].decode()} where {name!r} should be")
    images = batch.batch.column("image")
    indices = batch.batch.column("index").to_numpy().copy()
    start = images.storage.flatten().buffers()[1].address - base if len(images) else 0
    shape = (len(images), *images.type.shape)
    return _Place(name, number, start, shape, indices, about[b"sha256"].decode())


def _neighbours(places: Iterable[_Place]) -> list[list[_Place]]:
    """The classes in their order, in groups that follow one another in the file with no other between them.

    A mapping keeps a file descriptor, so a mapping for each of many classes would exceed `ulimit -n`.
    """
    groups: list[list[_Place]] = []
    for place in places:
        before = groups[-1][-1] if groups else None
        follows = before is not None and place.batch == before.batch + 1 and 0 < before.stop <= place.start
        if follows:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _map(path: str, neighbours: list[_Place]) -> list[OpenedClass]:
    """Maps neighbours at once; only the Arrow headers and indices between them are mapped besides."""
    start, stop = neighbours[0].start, neighbours[-1].stop
    whole = np.empty(0, np.uint8)
    if stop > start:
        whole = np.memmap(path, dtype=np.uint8, mode="c", offset=start, shape=(stop - start,))
    opened = []
    for place in neighbours:
        pixels = whole[place.start - start : place.stop - start].reshape(place.shape)
        opened.append(OpenedClass(place.name, pixels, place.indices, place.digest))
    return opened


def verify(opened: Iterable[OpenedClass]) -> None:
    """Reads every image and raises DamagedError where a class's digest is not what was written."""
    for each in opened:
        if class_digest(each.indices, each.pixels) != each.digest:
            raise DamagedError(f"the images of {each.name!r} are not those that were written")

"""The file format of prepared images: one Arrow IPC file per split, with one record batch per class.

Columns: `image`, a uint8 tensor of shape (side, side, channels), and `index`, the image's position in the
split's original order. Each batch carries its class's name and digest. Any Arrow library can read the file.
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
"""Version of the format, raised whenever the same source would give other bytes."""


UNSOUND = (
    *(pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(OverflowError, RecursionError),
)
"""What reading a file raises that is not what it should be."""


class DamagedError(Exception):
    """A prepared file is truncated, or differs from what was written."""


@dataclass(frozen=True)
class OpenedClass:
    """A class's images, uint8 (n, H, W, C), mapped from the file, and their indices, int64 (n,)."""

    name: str
    pixels: np.ndarray
    indices: np.ndarray
    digest: str


def means_damage(error: Exception) -> bool:
    """Return whether an error in reading prepared data means damage, not a limit, permission or disk error.

    Arrow raises OSError without an errno if a file's content is inconsistent.
    """
    if isinstance(error, OSError):
        return error.errno in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return not isinstance(error, MemoryError)


def class_digest(indices: np.ndarray, pixels: np.ndarray) -> str:
    """Return the SHA-256 of a class's images and of their positions in the split."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(indices, dtype="<i8").data)
    if pixels.size:
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def fingerprint(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a data set's content: classes, shape, counts, digests and groups."""
    named = ["classes", "side", "channels", "counts", "digests"]
    named += ["train_groups"] if "train_groups" in content else []
    described = json.dumps([content[name] for name in named], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


class SplitWriter:
    """A context manager that writes one split's file, class by class."""

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
        """Append a class's images, uint8 (n, H, W, C), and their indices, int64 (n,); return their digest."""
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
    """A class's place in the file: the number of its batch, and the bytes of its images, start to stop."""

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
    """Map these classes of a split's file, copy-on-write, and no others.

    Raise DamagedError, or OSError if the file may be sound but could not be opened or mapped. The whole file
    is mapped only while its table of contents is read, and for the few milliseconds until Arrow's threads
    release it; nothing that is returned refers to that mapping.
    """
    try:
        places = _find_classes(path, split, classes)
        return [opened for adjacent in _adjacent(places) for opened in _map(path, adjacent)]
    except UNSOUND as error:
        if means_damage(error):
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
        return [_find_class(path, reader, base, file.size(), name, numbers[name]) for name in classes]


def _find_class(
    path: str, reader: pa.ipc.RecordBatchFileReader, base: int, size: int, name: str, number: int
) -> _Place:
    batch = reader.get_batch_with_custom_metadata(number)
    about = batch.custom_metadata
    batch.batch.validate()  # that its buffers lie inside the file, before one is read
    if json.loads(about[b"class"]) != name:
        raise DamagedError(f"{path} holds {about[b'class'].decode()} where {name!r} should be")
    images = batch.batch.column("image")
    indices = batch.batch.column("index").to_numpy().copy()
    start = images.storage.flatten().buffers()[1].address - base if len(images) else 0
    place = _Place(name, number, start, (len(images), *images.type.shape), indices, about[b"sha256"].decode())
    if images.type.value_type != pa.uint8() or not 0 <= start <= place.stop <= size:
        raise DamagedError(f"the images of {name!r} are not where {path} says")
    return place


def _adjacent(places: Iterable[_Place]) -> list[list[_Place]]:
    """Return the classes in their order, in groups that are adjacent in the file.

    A mapping keeps a file descriptor, so one mapping per class could exceed `ulimit -n`.
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


def _map(path: str, adjacent: list[_Place]) -> list[OpenedClass]:
    """Map adjacent classes at once, together with only the Arrow headers and indices between them."""
    start, stop = adjacent[0].start, adjacent[-1].stop
    whole = np.empty(0, np.uint8)
    if stop > start:
        whole = np.memmap(path, dtype=np.uint8, mode="c", offset=start, shape=(stop - start,))
    opened = []
    for place in adjacent:
        pixels = whole[place.start - start : place.stop - start].reshape(place.shape)
        opened.append(OpenedClass(place.name, pixels, place.indices, place.digest))
    return opened


def verify(opened: Iterable[OpenedClass]) -> None:
    """Read every image; raise DamagedError if a class's digest differs from what was written."""
    for each in opened:
        if class_digest(each.indices, each.pixels) != each.digest:
            raise DamagedError(f"the images of {each.name!r} are not those that were written")

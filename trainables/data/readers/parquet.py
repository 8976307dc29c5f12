"""Parquet files with an image column and a label column, for any benchmark.

The image column holds encoded files: bytes, or the struct {bytes, path} of the Hugging Face hub. Labels are
class names, or whole numbers whose names are in the schema's metadata (a JSON list under "class_names", or
the hub's ClassLabel features), or otherwise in the benchmark. The encoded images are held in memory while
they are prepared.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.readers.reader import module_reader
from trainables.data.readers.source import Source, Split, check_names, with_test_part
from trainables.mistake import Mistake, one_line

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

SUFFIXES = (".parquet", ".pq")
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_name", "target", "category")
TEST_NAMES = ("test", "val")
ROWS = 1024
"""Rows that are read at a time."""

EXPANSION, SLACK = 100, 2**28
"""How many times its size a file may unpack to, and the bytes that any file may."""
EXPANDS = f"it unpacks to more than {EXPANSION} times its size, as no file of images does"

NAME_COLUMNS = ("filename", "file_name", "file", "path", "image_path")
"""Columns, or fields of the image column's struct, that name the file that an image was."""

MOST_ROWS_IN_LITTLE = 2**20
"""Rows that a file may claim whatever its size; more take at least a byte each."""


def find(request: DataRequest) -> tuple[Path, Path | None] | None:
    """Return the Parquet files of the training and test images that --data names, or None if it names none.

    In a folder, <benchmark>_train.parquet has precedence over train.parquet; only the former counts for
    a benchmark whose images need no --data. The test file has the training file's name with test (or val) in
    place of train. Raise Mistake for a named file that does not exist.
    """
    given = Path(request.path)
    if given.suffix.lower() in SUFFIXES and not given.is_dir():
        if not given.is_file():
            what = "is no file" if os.path.lexists(given) else "does not exist"
            raise Mistake(f"{given} {what}: --data names a Parquet file of training images, or a folder.")
        return given, _test_file(given)
    names = [f"{request.name}_train.parquet"]
    if not module_reader(request.reader).embedded:
        names.append("train.parquet")
    for name in names:
        if (given / name).is_file():
            return given / name, _test_file(given / name)
    return None


def sources(request: DataRequest) -> list[str]:
    """Return the files that are read; raise Mistake if there are none."""
    found = find(request)
    if found is None:
        raise Mistake(f"{request.path} is neither a Parquet file nor a folder that holds train.parquet.")
    return [str(path) for path in found if path is not None]


def read(request: DataRequest) -> Source:
    """Return the images in the files' order, with the classes in their listed order, or else sorted.

    Without a test file, a seeded 20% is set aside for the benchmark image-folder. Raise Mistake if another
    benchmark has no test file, and for files without the two columns.
    """
    files = find(request)
    assert files is not None
    train, test = files
    if test is None and request.classes is not None:
        raise Mistake(
            f"{train} has no test file beside it, and {request.name}'s test images are fixed: put them into "
            "a file of the same name with test for train."
        )
    tables = [_LabelledFile(path, request) for path in (train, test) if path is not None]
    present = {name for table in tables for name in table.names}
    known = [name for table in tables for name in table.known_names]
    order = list(dict.fromkeys(known)) or sorted(present, key=_number_first)
    classes = tuple(name for name in order if name in present)
    splits = [table.split(classes) for table in tables]
    if test is None:
        return with_test_part(classes, splits[0])
    return Source(classes, {"train": splits[0], "test": splits[1]}, oriented=request.classes is None)


class _LabelledFile:
    """A file's labels, and its images, which are read on first use.

    `rows` are the rows that belong to the benchmark, and `names` their class names. `known_names` are the
    classes in their order, if the file or the benchmark lists them.
    """

    def __init__(self, path: Path, request: DataRequest) -> None:
        self.path = path
        with reading(path), pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            self._image = image_column(schema, path)
            label = _label_column(schema, path)
            if rows > max(MOST_ROWS_IN_LITTLE, path.stat().st_size):
                raise ValueError(f"it claims {rows:,} rows")
            values = file.read([label])[label].combine_chunks()
            self._own_names = _own_names(file, self._image)
            self._groups = _groups(file, request.groups, path) if request.groups else None
            self.known_names, names = _names_of(values, label, schema, path, request.classes)
        self._row_count = len(names)
        self.rows = np.arange(self._row_count)
        class_of = module_reader(request.reader).class_of
        if class_of is not None:
            self.known_names = ()
            members = [class_of(name, request.classes or ()) for name in names]
            self.rows = np.array([row for row, member in enumerate(members) if member is not None], np.int64)
            names = [member for member in members if member is not None]
        check_names(dict.fromkeys(names), path)
        self.names = names

    def split(self, classes: tuple[str, ...]) -> Split:
        """Return the file's rows, labelled by position in these classes."""
        number = {name: label for label, name in enumerate(classes)}
        labels = np.array([number[name] for name in self.names], np.int64)
        images = _Images(self.path, self._image, self._row_count)
        rows = self.rows.tolist()
        own = None if self._own_names is None else [self._own_names[row] for row in rows]
        name = lambda i: f"row {rows[i]} of {self.path}"  # noqa: E731
        groups = None if self._groups is None else [self._groups[row] for row in rows]
        return Split(labels, lambda i: images[rows[i]], name, own_names=own, groups=groups)


class _Images:
    """The encoded images of a file by row, read on first use; safe for use by several threads."""

    def __init__(self, path: Path, column: ImageColumn, count: int) -> None:
        self._path, self._column, self._count = path, column, count
        self._lock = threading.Lock()
        self._chunks: list[pa.Array] = []
        self._starts: list[int] = []

    def __getitem__(self, row: int) -> bytes:
        with self._lock:
            if not self._chunks:
                self._read()
        place = bisect_right(self._starts, row) - 1
        return self._chunks[place][row - self._starts[place]].as_py() or b""

    def _read(self) -> None:
        for column in image_chunks(self._path, self._column):
            self._starts.append(self._starts[-1] + len(self._chunks[-1]) if self._chunks else 0)
            self._chunks.append(column)
        found = sum(map(len, self._chunks))
        if found != self._count:
            raise _unreadable(self._path, f"it has {self._count} labels for {found} images")


@dataclass(frozen=True)
class ImageColumn:
    """The column of a file's encoded images: its path for reading, and whether it is inside a struct."""

    leaf: str
    struct: bool


def _unreadable(path: Path, reason: object) -> Mistake:
    return Mistake(f"{path} is not a Parquet file that can be read ({reason}): fetch it again.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise Mistake for what pyarrow raises for files that are not what they say."""
    try:
        yield
    except Mistake:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(path, one_line(error)) from error


def image_chunks(path: Path, column: ImageColumn | None = None) -> Iterator[pa.Array]:
    """Yield the encoded images of a file in arrays of up to 1,024 rows; raise Mistake if it cannot be read.

    Without a column it is the file's image column. A file that unpacks to far more than it holds is refused
    before it fills the memory: encoded images hardly get smaller.
    """
    most = SLACK + EXPANSION * path.stat().st_size
    with reading(path), pq.ParquetFile(path) as file:
        column = column or image_column(file.schema_arrow, path)
        _check_claims(file.metadata, most)
        for batch in file.iter_batches(ROWS, columns=[column.leaf]):
            found = batch.column(0).field("bytes") if column.struct else batch.column(0)
            most -= found.nbytes
            if most < 0:
                raise ValueError(EXPANDS)
            yield found


def _check_claims(metadata: pq.FileMetaData, most: int) -> None:
    """Raise ValueError if a file says itself that it unpacks to more than `most` bytes."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > most:
        raise ValueError(EXPANDS)


def _test_file(train: Path) -> Path | None:
    before, found, after = train.name.rpartition("train")
    candidates = [train.with_name(f"{before}{name}{after}") for name in TEST_NAMES] if found else []
    return next((path for path in candidates if path.is_file()), None)


def image_column(schema: pa.Schema, path: Path) -> ImageColumn:
    """Return the column of encoded files, bytes or the hub's struct; raise Mistake if there is none."""
    found = {}
    for field in schema:
        if _holds_bytes(field.type):
            found[field.name] = ImageColumn(field.name, struct=False)
        elif pa.types.is_struct(field.type):
            inner = field.type.get_field_index("bytes")
            if inner >= 0 and _holds_bytes(field.type.field(inner).type):
                found[field.name] = ImageColumn(f"{field.name}.bytes", struct=True)
    for name in IMAGE_COLUMNS:
        if name in found:
            return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    raise Mistake(
        f"{path} has no image column: one named image or img, of encoded files (bytes, or a struct with a "
        f"field bytes), is needed; its columns are {_columns(schema)}."
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, path: Path) -> str:
    for name in LABEL_COLUMNS:
        if name in schema.names:
            return name
    raise Mistake(
        f"{path} has no label column (one of {', '.join(LABEL_COLUMNS)}), so its images cannot be sorted "
        f"into classes; its columns are {_columns(schema)}."
    )


def _own_names(file: pq.ParquetFile, image: ImageColumn) -> list[str] | None:
    """Return the name that each row has in the file, or None unless every row has one."""
    schema = file.schema_arrow
    kinds = {name: schema.field(name).type for name in NAME_COLUMNS if name in schema.names}
    column = image.leaf.removesuffix(".bytes")
    if image.struct:
        inner = schema.field(column).type
        kinds |= {f"{column}.{f.name}": f.type for f in inner if f.name in NAME_COLUMNS}
    for leaf, kind in kinds.items():
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = file.read([leaf]).column(0).combine_chunks()
            values = values.field(0) if pa.types.is_struct(values.type) else values
            if not values.null_count:
                return [str(value) for value in values.to_pylist()]
    return None


def _groups(file: pq.ParquetFile, column: str, path: Path) -> list[str]:
    """Return each row's group as a column of names or whole numbers has it; raise Mistake if it does not."""
    schema = file.schema_arrow
    if column not in schema.names:
        raise Mistake(
            f"--groups {column!r} names no column of {path}; its columns are {_columns(schema)}: name the "
            "one that tells the group of a row."
        )
    values = file.read([column])[column].to_pylist()
    for row, value in enumerate(values):
        if not isinstance(value, str | int):
            raise Mistake(f"Row {row} of {path} has no group in the column {column}: give every row one.")
    return [str(value) for value in values]


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _names_of(
    values: pa.Array, column: str, schema: pa.Schema, path: Path, benchmark_classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes in their order, or none if that is unknown, and the class name of each row."""
    if values.null_count:
        row = next(row for row, value in enumerate(values) if not value.is_valid)
        raise Mistake(f"Row {row} of {path} has no label: remove such rows or label them.")
    labels = values.to_pylist()
    listed = _listed_names(schema, column)
    if all(isinstance(label, str) for label in labels):
        return tuple(listed), labels
    if not all(isinstance(label, int) for label in labels):
        raise Mistake(
            f"The label column {column} of {path} is of type {values.type}: labels are numbers or names."
        )
    names = listed or list(benchmark_classes or ())
    if not names and min(labels, default=0) >= 0:
        return (), [str(label) for label in labels]
    for row, label in enumerate(labels):
        if not 0 <= label < max(1, len(names)):
            raise Mistake(
                f"Row {row} of {path} has the label {label}, but labels count from 0"
                + (f" to {len(names) - 1}, the last of its {len(names)} classes" if names else "")
                + ": an unlabelled split cannot be used; correct the file or its class names."
            )
    return tuple(names), [names[label] for label in labels]


def _listed_names(schema: pa.Schema, column: str) -> list[str]:
    """Return the class names that the schema's metadata lists for a column of numbers, or none."""
    metadata = schema.metadata or {}
    try:
        if b"class_names" in metadata:
            return [str(name) for name in json.loads(metadata[b"class_names"])]
        if b"huggingface" in metadata:
            feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
            return [str(name) for name in feature.get("names", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # metadata in another format counts as none
    return []


def _number_first(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)

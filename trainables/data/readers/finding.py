"""Which reader reads the data that was asked for."""

from __future__ import annotations

from pathlib import Path

from trainables.data.readers import parquet
from trainables.data.readers.reader import Reader, brought_reader, module_reader
from trainables.data.readers.request import DataRequest


def find_reader(request: DataRequest) -> Reader:
    """Return what reads it: a plug-in's function, else `parquet` if there are such files, else its module.

    Raise Mistake if there is no such reader.
    """
    brought = brought_reader(request.reader)
    if brought is not None:
        return brought
    return module_reader("parquet" if parquet.find(request) is not None else request.reader)


def applies_orientation(request: DataRequest) -> bool:
    """Return whether the images are prepared with the orientation that a camera noted in a file (EXIF).

    The data need not be there.
    """
    if request.classes is None or brought_reader(request.reader) is not None:
        return True
    named_parquet = Path(request.path).suffix.lower() in parquet.SUFFIXES
    if named_parquet or parquet.find(request) is not None:
        return False
    return module_reader(request.reader).oriented

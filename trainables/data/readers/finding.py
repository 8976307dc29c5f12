"""Which reader reads the data that was asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from trainables.data.readers import parquet
from trainables.data.readers.request import DataRequest


def find_reader(request: DataRequest) -> ModuleType:
    """Return the module that reads it: `parquet` if there are Parquet files, else the benchmark's own."""
    if parquet.find(request) is not None:
        return parquet
    return importlib.import_module(f"trainables.data.readers.{request.reader}")

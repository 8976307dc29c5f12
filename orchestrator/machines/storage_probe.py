"""Whether several machines share a storage and can write it.

One machine begins a probe, which writes a file into a folder of its own in the storage. Every machine then
answers whether it sees that file and can write beside it. The first machine ends the probe, which removes
the folder.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.ledger.storage import absolute_path, open_storage
from trainables.mistake import Mistake, one_line

MARKER = "asker"
"""Name of the first machine's file."""


@dataclass(frozen=True)
class StorageAnswer:
    """What one machine found when it tried a storage."""

    shared: bool
    """Whether the storage shows the file that another machine wrote there."""
    error: str = ""
    """Why the storage cannot be read or written; "" if it can."""


@dataclass(frozen=True)
class StorageProbe:
    """A folder in a storage that exists only while machines try whether they share the storage."""

    storage: str
    """A URI, or an absolute path, since each node would resolve a relative one in a folder of its own."""
    folder: str
    """The probe's folder below the storage."""

    @classmethod
    def of(cls, storage: str) -> StorageProbe:
        """Return a new probe of a storage, which is given as a folder or URI."""
        place = storage if "://" in storage else absolute_path(storage)
        return cls(place, f".probe-{uuid.uuid4().hex}")

    def begin(self) -> str:
        """Write the first machine's file; return why that failed, "" if it did not."""
        try:
            fs, folder = self._open()
            fs.create_dir(folder, recursive=True)
            with fs.open_output_stream(f"{folder}/{MARKER}") as file:
                file.write(b"written")
        except (Mistake, OSError, pa.ArrowException) as error:
            return one_line(error)
        return ""

    def answer(self) -> StorageAnswer:
        """Look for the first machine's file and, where it is there, write one beside it."""
        try:
            fs, folder = self._open()
            shared = fs.get_file_info(f"{folder}/{MARKER}").type == pafs.FileType.File
            if shared:
                with fs.open_output_stream(f"{folder}/{socket.gethostname()}-{os.getpid()}") as file:
                    file.write(b"written")
            return StorageAnswer(shared)
        except (Mistake, OSError, pa.ArrowException) as error:
            return StorageAnswer(shared=False, error=one_line(error))

    def end(self) -> None:
        """Remove the folder with all files in it."""
        with suppress(Mistake, OSError, pa.ArrowException):
            fs, folder = self._open()
            fs.delete_dir(folder)

    def _open(self) -> tuple[pafs.FileSystem, str]:
        fs, root = open_storage(self.storage)
        return fs, f"{root}/{self.folder}"

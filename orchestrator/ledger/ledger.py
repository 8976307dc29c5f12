"""The ledger of a sweep: files in one folder, each written whole or not at all.

It is the truth about the sweep. A cell is done when its result.json can be read and the Parquet files
beside it have the checksums that it states. Anything else is work still to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.ledger.storage import Files, flush, open_storage, reason
from trainables.mistake import Mistake

SCORES, CURVES, RESULT, CELL = "scores.parquet", "curves.parquet", "result.json", "cell.json"
IDENTITY = "identity"
THREADS = 32
KEPT_CHECKPOINTS = 2


class Superseded(RuntimeError):
    """A newer attempt at the same cell has begun: this one stops without writing."""


@dataclass(frozen=True)
class Ledger:
    """The files of one sweep below a storage folder or URI; it can be sent to other processes."""

    storage: str
    name: str
    patience: float = 0.0
    """Seconds for which a call is tried again while the storage is away."""

    @cached_property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        return open_storage(self.storage)

    def __getstate__(self) -> dict[str, Any]:
        """With its place, since a relative folder is one of the process that sends it."""
        fields = {"storage": self.storage, "name": self.name, "patience": self.patience}
        return {**fields, "_place": self._place}

    @property
    def _files(self) -> Files:
        return Files(self._place[0], self.patience)

    def path(self, *parts: str) -> str:
        """Where something of the sweep stands, within its file system."""
        return "/".join((self._place[1], self.name, *parts))

    @property
    def local_folder(self) -> str | None:
        """The sweep's folder where it is on this machine's file system, or None."""
        return self.path() if self._files.local else None

    def uri(self, *parts: str) -> str:
        """The same for people, and for libraries that find the file system by themselves."""
        if self.local_folder is not None:
            return self.path(*parts)
        root = urlsplit(self.storage)  # what stands behind a ? stays there
        return urlunsplit(root._replace(path="/".join((root.path.rstrip("/"), self.name, *parts))))

    def remove_folder(self, *parts: str) -> None:
        """Removes a folder of the sweep, if it is there."""
        folder = self.path(*parts)
        if self._files.info(folder).type == pafs.FileType.Directory:
            self._files.delete_folder(folder)

    # The sweep

    def begun(self) -> bool:
        """Whether any cell has begun."""
        return self._files.info(self.path("cells")).type == pafs.FileType.Directory

    def exists(self) -> bool:
        """Whether the sweep has begun."""
        return self.holds("sweep.json")

    def holds(self, name: str) -> bool:
        """Whether a file of this name is there."""
        return self._files.info(self.path(name)).type == pafs.FileType.File

    def identity(self) -> str:
        """What tells this ledger from any other, of its name or not; made when first asked for, and kept."""
        try:
            return self.read(IDENTITY).decode()
        except FileNotFoundError:
            made = uuid.uuid4().hex
            self.write(made.encode(), IDENTITY)
            return made

    def unwritable(self, error: OSError) -> Mistake:
        """What to say where the storage cannot be written."""
        return Mistake(
            f"The storage {self.storage} cannot be written ({reason(error)}): give a folder or bucket "
            "that can, with --storage."
        )

    def read_sweep(self) -> dict[str, Any]:
        """sweep.json; Mistake where there is no such sweep or the file cannot be read."""
        if not self.exists():
            known = ", ".join(self._sweeps()) or "none"
            raise Mistake(f"There is no sweep {self.name!r} in {self.storage}; sweeps there: {known}.")
        try:
            return json.loads(self.read("sweep.json"))
        except ValueError:
            raise Mistake(
                f"{self.path('sweep.json')} cannot be read as JSON: restore it from a copy, or choose "
                "another --name."
            ) from None

    def write_sweep(self, values: dict[str, Any]) -> None:
        """Writes sweep.json; Mistake where the storage cannot be written."""
        try:
            self.write_json(values, "sweep.json")
            if self.local_folder is not None:
                flush(self.path("sweep.json"))  # cells guard themselves by checksums; this does not
        except OSError as error:
            raise self.unwritable(error) from None

    def _sweeps(self) -> list[str]:
        found = self._files.listing(self._place[1])
        folders = [info.base_name for info in found if info.type == pafs.FileType.Directory]
        return sorted(n for n in folders if Ledger(self.storage, n).exists())

    # Cells

    def begin(self, key: str, values: dict[str, Any]) -> int:
        """Begins an attempt at a cell and returns its number, 1 for the first."""
        attempt = 1 + max([self.attempts(key), *(_numbers(name)[1] for name in self.checkpoints(key))])
        self.write_json({**values, "attempts": attempt}, "cells", key, CELL)
        if attempt > 1 and self.local_folder is not None:
            self._clear_unfinished(key)  # after the account, which tells an earlier attempt why its files go
        return attempt

    def _clear_unfinished(self, key: str) -> None:
        """Removes what earlier attempts at a cell, dead or about to stop, had written in part."""
        with contextlib.suppress(FileNotFoundError):  # an earlier one is clearing up itself
            for left in Path(self.path("cells", key)).rglob("*.part"):
                left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, key: str, attempt: int) -> Iterator[None]:
        """Around what an attempt writes: raises Superseded, and not what that leads to, where another began.

        A newer attempt clears files that are written in part, which an older one that lives may be renaming.
        """
        self.check_newest(key, attempt)
        try:
            yield
        except FileNotFoundError:
            self.check_newest(key, attempt)
            raise

    def attempts(self, key: str) -> int:
        """How many attempts at a cell have begun."""
        return int(self.cell(key).get("attempts", 0))

    def cell(self, key: str) -> dict[str, Any]:
        """A cell's cell.json, empty where there is none that can be read."""
        try:
            return json.loads(self.read("cells", key, CELL))
        except (FileNotFoundError, ValueError):
            return {}

    def check_newest(self, key: str, attempt: int) -> None:
        """Raises Superseded where another attempt has begun since."""
        newest = self.attempts(key)
        if newest > attempt:
            raise Superseded(f"attempt {newest} at cell {key} has taken over from attempt {attempt}")

    def write_checkpoint(self, key: str, epoch: int, attempt: int, snapshot: bytes) -> None:
        """Writes a checkpoint and removes all but the newest two.

        Newest by attempt: what an earlier one left at a later epoch is something that could not be read.
        """
        with self.writing(key, attempt):
            self.write(snapshot, "cells", key, "checkpoint", f"{epoch}-{attempt}.pt")
        by_attempt = sorted(self.checkpoints(key), key=lambda name: _numbers(name)[::-1], reverse=True)
        for name in by_attempt[KEPT_CHECKPOINTS:]:
            self._files.delete(self.path("cells", key, "checkpoint", name))

    def checkpoints(self, key: str) -> list[str]:
        """File names of a cell's checkpoints, the latest epoch first."""
        names = [info.base_name for info in self._files.listing(self.path("cells", key, "checkpoint"))]
        return sorted((name for name in names if name.endswith(".pt")), key=_numbers, reverse=True)

    def newest_epoch(self, key: str) -> int:
        """The latest epoch that a cell's checkpoints hold, 0 where there are none."""
        names = self.checkpoints(key)
        return _numbers(names[0])[0] if names else 0

    def remove_checkpoints(self, key: str) -> None:
        """Removes what a done cell no longer needs."""
        self.remove_folder("cells", key, "checkpoint")

    def write_table(self, table: pa.Table, *parts: str) -> str:
        """Writes a Parquet file and returns its SHA-256."""
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        self.write(sink.getvalue(), *parts)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def read_table(self, *parts: str) -> pa.Table:
        """A Parquet file of the sweep; OSError or ArrowInvalid where it is missing or cut."""
        return pq.read_table(pa.BufferReader(self.read(*parts)))

    def result(self, key: str) -> dict[str, Any] | None:
        """A cell's result where it is done, else None."""
        try:
            result = json.loads(self.read("cells", key, RESULT))
            sums = {**result["checksums"], **result["attempt"]["checksums"]}
            for name, expected in sums.items():
                if hashlib.sha256(self.read("cells", key, name)).hexdigest() != expected:
                    return None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return result

    def results(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The results of those cells that are done, read by many threads."""
        present = {info.base_name for info in self._files.listing(self.path("cells"))}
        begun = [key for key in keys if key in present]
        with ThreadPoolExecutor(THREADS) as pool:
            found = zip(begun, pool.map(self.result, begun), strict=True)
            return {key: result for key, result in found if result is not None}

    # Files

    def read(self, *parts: str) -> bytes:
        """A file's bytes; FileNotFoundError where it is not there, StorageAway where none can say."""
        return self._files.read(self.path(*parts))

    def write(self, data: bytes, *parts: str) -> None:
        """Writes a file whole or not at all."""
        self._files.write(data, self.path(*parts))

    def write_json(self, values: dict[str, Any], *parts: str) -> None:
        """Writes values as JSON that reads well."""
        self.write((json.dumps(values, indent=1, sort_keys=True) + "\n").encode(), *parts)


def _numbers(name: str) -> tuple[int, ...]:
    """(epoch, attempt) of a checkpoint's file name."""
    return tuple(map(int, name.removesuffix(".pt").split("-")))

"""The ledger of a sweep: files in one folder, each written whole or not at all.

It is the truth about the sweep. A cell is done when its result.json can be read and the Parquet files
beside it have the checksums that it states; everything else is work still to do. This module alone knows
where a file stands and what it is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.ledger import attempts
from orchestrator.ledger.attempts import ONE_CPU, Usage
from orchestrator.ledger.storage import PART, Files, flush, open_storage, reason, unfinished_of
from trainables.mistake import Mistake

SWEEP, IDENTITY, BASELINE, LOCK = "sweep.json", "identity", "baseline.json", "lock.json"
LOCAL_LOCK = "lock"
CELLS, REPORT, PLUGINS, SCRATCH = "cells", "report", "plugins", "ray"
CELL, CURVES, SCORES, RESULT = "cell.json", "curves.parquet", "scores.parquet", "result.json"
WINDOW, WEIGHTS = "window.parquet", "weights.safetensors"
DETECTORS, IMAGE_SETS = "detectors", "ood"
LATER_SETS = f"{IMAGE_SETS}/later"
"""Image sets that were scored later: what a result vouches for is not written again."""
ATTEMPTS = "attempts"
CHECKPOINTS, CHECKPOINT_SUFFIX = "checkpoint", ".pt"
KEPT_CHECKPOINTS = 2
THREADS = 32
"""How many files are read at once."""

Json = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
"""One row per epoch: "epoch", an int, and metrics by name, float or None if the epoch was not evaluated."""


class Superseded(RuntimeError):
    """A newer attempt at the same cell has begun: this one stops without writing."""


@dataclass(frozen=True)
class Ledger:
    """The files of one sweep below a storage folder or URI; it can be sent to other processes."""

    storage: str
    name: str
    patience: float = 0.0
    """Seconds for which a call is repeated while the storage does not answer."""

    @cached_property
    def _root(self) -> tuple[pafs.FileSystem, str]:
        return open_storage(self.storage)

    def __getstate__(self) -> Json:
        """Include the resolved root, since a relative folder is relative to the sending process."""
        fields = {"storage": self.storage, "name": self.name, "patience": self.patience}
        return {**fields, "_root": self._root}

    @property
    def _files(self) -> Files:
        return Files(self._root[0], self.patience)

    # Where things stand

    def _path(self, *parts: str) -> str:
        """Path of a file of the sweep within its file system."""
        return "/".join((self._root[1], self.name, *parts))

    def _uri(self, *parts: str) -> str:
        """Path or URI for people, and for libraries that find the file system by themselves."""
        if self.local_folder is not None:
            return self._path(*parts)
        root = urlsplit(self.storage)  # a query (after "?") stays where it is
        return urlunsplit(root._replace(path="/".join((root.path.rstrip("/"), self.name, *parts))))

    @property
    def local_folder(self) -> str | None:
        """The sweep's folder, or None if it is not on this machine's file system."""
        return self._path() if self._files.local else None

    @property
    def uri(self) -> str:
        """The sweep's folder as a person or another library writes it."""
        return self._uri()

    @property
    def report_uri(self) -> str:
        """The folder of the report's files."""
        return self._uri(REPORT)

    @property
    def scratch_uri(self) -> str:
        """A folder for Ray's own bookkeeping, which nothing reads again."""
        return self._uri(SCRATCH)

    # The sweep

    def exists(self) -> bool:
        """Return whether there is a sweep of this name."""
        return self._holds(SWEEP)

    def has_folder(self) -> bool:
        """Return whether there is anything under this name."""
        return self._files.is_folder(self._path())

    def discard(self) -> None:
        """Remove all of a sweep that was refused before it began, and an empty storage folder with it."""
        self._remove_folder()
        if self.local_folder is not None:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self.local_folder))

    def holds_baseline(self) -> bool:
        """Return whether the folder was written by version 0.1's baseline command, whose files differ."""
        return self._holds(BASELINE)

    def begun(self) -> bool:
        """Return whether any cell has begun."""
        return self._files.is_folder(self._path(CELLS))

    def identity(self) -> str:
        """Return what tells this ledger from every other one, even of the same name; made once and kept."""
        try:
            return self._read(IDENTITY).decode()
        except FileNotFoundError:
            made = uuid.uuid4().hex
            self._write(made.encode(), IDENTITY)
            return made

    def unwritable(self, error: OSError) -> Mistake:
        """Return the Mistake that says that the storage cannot be written."""
        return Mistake(
            f"The storage {self.storage} cannot be written ({reason(error)}): give a folder or bucket "
            "that can, with --storage."
        )

    def read_sweep(self) -> Json:
        """Return sweep.json; raise Mistake if there is no such sweep or the file cannot be read."""
        if not self.exists():
            known = ", ".join(sweeps_in(self.storage)) or "none"
            raise Mistake(f"There is no sweep {self.name!r} in {self.storage}; sweeps there: {known}.")
        try:
            return _object(self._read(SWEEP))
        except ValueError:
            raise Mistake(
                f"{self._path(SWEEP)} cannot be read as JSON: restore it from a copy, or choose "
                "another --name."
            ) from None

    def foreign_sweep(self, detail: object) -> Mistake:
        """Return the Mistake that says that sweep.json was not written by this version."""
        return Mistake(
            f"{self._path(SWEEP)} is not a sweep of this version (at {detail}): go on with the "
            "version that wrote it, or restore the file from a copy."
        )

    def write_sweep(self, values: Json) -> None:
        """Write sweep.json; raise Mistake if the storage cannot be written."""
        try:
            self._write_json(values, SWEEP)
            if self.local_folder is not None:
                flush(self._path(SWEEP))  # cells guard themselves by checksums; this file does not
        except OSError as error:
            raise self.unwritable(error) from None

    def write_plugin(self, digest: str, source: str) -> None:
        """Keep a plug-in's source under its digest."""
        self._write(source.encode(), PLUGINS, f"{digest}.py")

    def read_plugin(self, digest: str) -> str:
        """Return the source of a plug-in; raise Mistake if the ledger does not have it."""
        try:
            return self._read(PLUGINS, f"{digest}.py").decode()
        except (FileNotFoundError, UnicodeDecodeError):
            raise Mistake(
                f"{self._uri(PLUGINS, digest)}.py, a plug-in of the sweep, cannot be read: restore it from a "
                "copy, or give the file with --plugin."
            ) from None

    def write_report(self, name: str, data: bytes) -> None:
        """Write a file of the report."""
        self._write(data, REPORT, name)

    def has_report(self) -> bool:
        """Return whether a report was written before."""
        return self._files.is_folder(self._path(REPORT))

    def remove_scratch(self) -> None:
        """Remove the folder of Ray's bookkeeping, if there is one."""
        self._remove_folder(SCRATCH)

    # The lock (lock.py)

    @property
    def lock_file(self) -> str | None:
        """The file that a driver locks; None on object stores, where the lock is what a file says."""
        return None if self.local_folder is None else self._path(LOCAL_LOCK)

    def read_lock(self) -> Json:
        """Return what the lock says, empty if there is none to read."""
        try:
            return _object(self._read(LOCK))
        except (FileNotFoundError, ValueError):
            return {}

    def write_lock(self, values: Json) -> None:
        """Write the lock."""
        self._write_json(values, LOCK)

    # Cells: attempts

    def begin(self, key: str, about: Json, *, device: str = "cpu", usage: Usage = ONE_CPU) -> int:
        """Begin an attempt at a cell and return its number, 1 for the first; no two have the same.

        `about` says what the cell is and, in its access log, what it opened; `device` is "cpu" or the
        name of a GPU.
        """
        checkpoints = self.checkpoints(key)
        known = max([self.attempts(key), *(_numbers(name)[1] for name in checkpoints)])
        for attempt in itertools.count(known + 1):
            record = attempts.begun(attempt, device=device, usage=usage, epoch=_latest_epoch(checkpoints))
            path = self._path(CELLS, key, ATTEMPTS, attempts.file_name(attempt))
            if self._files.create(_json_bytes(record), path, attempt):
                break
        with contextlib.suppress(Superseded):  # it says so when this one writes
            self._write_as(key, attempt, _json_bytes({**about, "attempts": attempt}), CELL)
        if attempt > 1:
            self._clear_unfinished(key, before=attempt)
            self._close_lost(key, before=attempt)
        return attempt

    def end_attempt(
        self, key: str, number: int, ending: str, error: str | None = None, *, resumed: int | None = None
    ) -> None:
        """Write down how an attempt ended, unless its record says so already.

        `resumed` is the epoch after which it went on, if that is not the latest that it found.
        """
        record = self._read_attempt(key, number)
        if record is None:
            return
        if resumed is not None:
            record["resumed_after_epoch"] = resumed
        epoch = max(self.newest_epoch(key), record["epoch"])
        closed = attempts.ended(record, ending, error, at=time.time(), epoch=epoch)
        self._close(key, closed, over=attempts.OPEN)

    def close_lost(self, keys: Iterable[str]) -> None:
        """Close the records that dead processes left running; for the owner of the sweep's lock."""
        begun = self.keys()
        wanted = [key for key in keys if key in begun]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._close_lost, wanted))

    def _close_lost(self, key: str, before: int | None = None) -> None:
        """Close the running attempts at a cell, or those before one, at their last sign of life."""
        for record in self._records(key):
            number = record["attempt"]
            if record["ending"] != attempts.RUNNING or (before is not None and number >= before):
                continue
            result = self.read_result(key) or {}
            about = result.get("attempt", {})
            if about.get("number") == number:
                at, ending = float(about.get("finished_at", time.time())), attempts.DONE
                epoch = int(result.get("values", {}).get("epochs", record["epoch"]))
            else:
                at, ending = self._last_sign(key, record), attempts.LOST
                epoch = max(self.newest_epoch(key), record["epoch"])
            closed = attempts.ended(record, ending, None, at=at, epoch=epoch)
            self._close(key, closed, over=(attempts.RUNNING,))

    def _last_sign(self, key: str, record: Json) -> float:
        """Return when an attempt last wrote a checkpoint, by the storage's clock, or else when it began."""
        found = filter(_is_checkpoint, self._files.listing(self._path(CELLS, key, CHECKPOINTS)))
        own = [info for info in found if _numbers(info.base_name)[1] == record["attempt"]]
        signs: list[float] = [record["started"], *(info.mtime.timestamp() for info in own)]
        return max(signs)

    def read_attempts(self, keys: Iterable[str]) -> dict[str, list[Json]]:
        """Return the records of attempts by key, the first attempt first, of cells that have any."""
        present = self.keys()
        wanted = [key for key in keys if key in present]
        with ThreadPoolExecutor(THREADS) as pool:
            found = zip(wanted, pool.map(self._records, wanted), strict=True)
            return {key: records for key, records in found if records}

    def _records(self, key: str) -> list[Json]:
        found = (self._read_attempt(key, number) for number in self._attempt_numbers(key))
        return [record for record in found if record is not None]

    def _attempt_numbers(self, key: str) -> list[int]:
        """Return the numbers of the attempts that left a record, in order."""
        names = (info.base_name for info in self._files.listing(self._path(CELLS, key, ATTEMPTS)))
        numbers = (attempts.number_of(name) for name in names)
        return sorted(number for number in numbers if number is not None)

    def _read_attempt(self, key: str, number: int) -> Json | None:
        try:
            record = _object(self._read(CELLS, key, ATTEMPTS, attempts.file_name(number)))
        except (FileNotFoundError, ValueError):
            return None
        return record if attempts.is_whole(record, number) else None

    def _close(self, key: str, record: Json, *, over: tuple[str, ...]) -> None:
        """Write an attempt's record with its ending, if the one that is there has one of those endings."""
        number = record["attempt"]

        def check() -> None:
            there = self._read_attempt(key, number)
            if there is None or there["ending"] not in over:
                raise attempts.ClosedAlready

        path = self._path(CELLS, key, ATTEMPTS, attempts.file_name(number))
        # A newer attempt, which clears half-written files, closes the record itself.
        with contextlib.suppress(attempts.ClosedAlready, FileNotFoundError):
            self._files.write_if(check, _json_bytes(record), path, number)

    def _clear_unfinished(self, key: str, before: int) -> None:
        """Remove what attempts before one, dead or about to stop, had written in part.

        Object stores have nothing such.
        """
        if self.local_folder is None:
            return
        with contextlib.suppress(FileNotFoundError):  # an earlier one is clearing up itself
            for left in Path(self._path(CELLS, key)).rglob(f"*{PART}"):
                if (unfinished_of(left.name) or 0) < before:
                    left.unlink(missing_ok=True)

    def _write_as(self, key: str, attempt: int, data: bytes, *parts: str) -> None:
        """Write a file of a cell; raise Superseded, and leave it as it is, if a newer attempt has begun.

        A newer attempt clears half-written files, which an older one that is still alive may be renaming.
        """
        path = self._path(CELLS, key, *parts)
        try:
            self._files.write_if(lambda: self.check_newest(key, attempt), data, path, attempt)
        except FileNotFoundError:
            self.check_newest(key, attempt)
            raise

    def check_newest(self, key: str, attempt: int) -> None:
        """Raise Superseded if another attempt has begun since."""
        newest = max(self._attempt_numbers(key), default=attempt)
        if newest > attempt:
            raise Superseded(f"attempt {newest} at cell {key} has taken over from attempt {attempt}")

    def attempts(self, key: str) -> int:
        """Return how many attempts at a cell have begun; version 0.1 left no records of them."""
        return max([int(self.read_cell(key).get("attempts", 0)), *self._attempt_numbers(key)])

    def keys(self) -> set[str]:
        """Return the keys of all cells that have a folder, also of those that sweep.json does not mean."""
        return {info.base_name for info in self._files.listing(self._path(CELLS))}

    def read_cell(self, key: str) -> Json:
        """Return a cell's cell.json, empty if there is none that can be read."""
        try:
            return _object(self._read(CELLS, key, CELL))
        except (FileNotFoundError, ValueError):
            return {}

    def read_cells(self, keys: Iterable[str]) -> dict[str, Json]:
        """Return cell.json by key for the cells that have begun, read by many threads."""
        wanted = list(keys)
        with ThreadPoolExecutor(THREADS) as pool:
            found = zip(wanted, pool.map(self.read_cell, wanted), strict=True)
            return {key: about for key, about in found if about}

    # Cells: checkpoints

    def write_checkpoint(self, key: str, epoch: int, attempt: int, snapshot: bytes) -> None:
        """Write a checkpoint and remove all but the newest two; raise Superseded for an older attempt.

        Newest by attempt: what an earlier attempt left at a later epoch is something that could not be read.
        """
        self._write_as(key, attempt, snapshot, CHECKPOINTS, f"{epoch}-{attempt}{CHECKPOINT_SUFFIX}")
        by_attempt = sorted(self.checkpoints(key), key=lambda name: _numbers(name)[::-1], reverse=True)
        for name in by_attempt[KEPT_CHECKPOINTS:]:
            self._files.delete(self._path(CELLS, key, CHECKPOINTS, name))

    def checkpoints(self, key: str) -> list[str]:
        """Return the names of a cell's checkpoints, the latest epoch first."""
        found = self._files.listing(self._path(CELLS, key, CHECKPOINTS))
        names = [info.base_name for info in found if _is_checkpoint(info)]
        return sorted(names, key=_numbers, reverse=True)

    def read_checkpoint(self, key: str, name: str) -> bytes:
        """Return a checkpoint's bytes; raise FileNotFoundError if it is gone."""
        return self._read(CELLS, key, CHECKPOINTS, name)

    def newest_epoch(self, key: str) -> int:
        """Return the latest epoch that a cell's checkpoints hold, 0 if there are none."""
        return _latest_epoch(self.checkpoints(key))

    def remove_checkpoints(self, key: str) -> None:
        """Remove what a cell that is done no longer needs."""
        self._remove_folder(CELLS, key, CHECKPOINTS)

    # Cells: curves, scores, results

    def write_curves(self, key: str, attempt: int, rows: Rows) -> None:
        """Write a cell's curves so far; raise Superseded for an older attempt."""
        self._write_as(key, attempt, _parquet(_curves(rows)), CURVES)

    def read_curves(self, key: str) -> list[dict[str, Any]]:
        """Return a cell's curves, one row per epoch; empty if there are none that can be read."""
        try:
            return list(self._read_table(CELLS, key, CURVES).to_pylist())
        except (FileNotFoundError, pa.ArrowException):
            return []

    def read_scores(self, key: str) -> pa.Table:
        """Return a cell's scores, one row per test image; OSError or ArrowInvalid if missing or cut."""
        return self._read_table(CELLS, key, SCORES)

    def read_window(self, key: str) -> pa.Table | None:
        """Return the logits of a cell's earlier evaluations, a row per epoch and image; None without any."""
        try:
            return self._read_table(CELLS, key, WINDOW)
        except FileNotFoundError:
            return None

    def read_weights(self, result: Json) -> bytes | None:
        """Return the weights that a result vouches for; None if none were kept or the file is not whole."""
        kept = result.get("weights")
        try:
            data = self._read(CELLS, result["key"], WEIGHTS) if kept else b""
        except FileNotFoundError:
            return None
        return data if kept and hashlib.sha256(data).hexdigest() == kept["sha256"] else None

    def finish(
        self,
        key: str,
        attempt: int,
        values: Json,
        about: Json,
        *,
        scores: pa.Table | None = None,
        window: pa.Table | None = None,
        weights: bytes | None = None,
        curves: Rows | None = None,
        image_sets: Mapping[str, pa.Table] = MappingProxyType({}),
    ) -> Json:
        """Write scores, weights and curves, then the result that vouches for them; return the result.

        `image_sets` has the scores of image sets by name.

        `about` holds what may differ between equal runs: it stands under "attempt". Raises Superseded for an
        older attempt.
        """
        files = {name: table for name, table in ((SCORES, scores), (WINDOW, window)) if table is not None}
        files |= {f"{IMAGE_SETS}/{name}.parquet": table for name, table in image_sets.items()}
        checksums = {name: self._write_table_as(key, attempt, table, name) for name, table in files.items()}
        of_attempt = {}
        if curves is not None:  # which hold speeds, so their checksum differs between equal runs
            of_attempt[CURVES] = self._write_table_as(key, attempt, _curves(curves), CURVES)
        result = {**values, "key": key, "checksums": checksums}
        if weights is not None:
            self._write_as(key, attempt, weights, WEIGHTS)
            # Not among the checksums, which every reader of the result checks: weights can be large.
            result["weights"] = {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
        result["attempt"] = {**about, "checksums": of_attempt}
        self._write_as(key, attempt, _json_bytes(result), RESULT)
        return result

    def _write_table_as(self, key: str, attempt: int, table: pa.Table, name: str) -> str:
        """Write a Parquet file of a cell as _write_as does, and return its SHA-256."""
        data = _parquet(table)
        self._write_as(key, attempt, data, name)
        return hashlib.sha256(data).hexdigest()

    def read_result(self, key: str) -> Json | None:
        """Return a cell's result if it is done, else None."""
        try:
            result = json.loads(self._read(CELLS, key, RESULT))
            sums = {**result["checksums"], **result["attempt"]["checksums"]}
            for name, expected in sums.items():
                if hashlib.sha256(self._read(CELLS, key, name)).hexdigest() != expected:
                    return None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return dict(result)

    def read_results(self, keys: Iterable[str]) -> dict[str, Json]:
        """Return the results of those cells that are done, read by many threads."""
        present = self.keys()
        wanted = [key for key in keys if key in present]
        with ThreadPoolExecutor(THREADS) as pool:
            found = zip(wanted, pool.map(self.read_result, wanted), strict=True)
            return {key: result for key, result in found if result is not None}

    # Cells: detectors and image sets that came later

    def write_later(
        self, key: str, name: str, scores: pa.Table, about: Json, folder: str = DETECTORS
    ) -> Json:
        """Write the scores of a detector or image set, then the record that vouches for them; return it.

        `folder` is DETECTORS or LATER_SETS. For the owner of the sweep's lock, and cells that are done.
        """
        self._clear_unfinished(key, before=self.attempts(key) + 1)
        checksum = self._write_table(scores, CELLS, key, folder, f"{name}.parquet")
        record = {**about, "checksum": checksum}
        self._write_json(record, CELLS, key, folder, f"{name}.json")
        return record

    def read_later(self, key: str, folder: str = DETECTORS) -> dict[str, Json]:
        """Return a cell's records of what came later by name, of those whose scores are whole."""
        names = [info.base_name for info in self._files.listing(self._path(CELLS, key, folder))]
        stems = [name.removesuffix(".json") for name in sorted(names) if name.endswith(".json")]
        found = {stem: self._read_later(key, stem, folder) for stem in stems}
        return {stem: record for stem, record in found.items() if record is not None}

    def _read_later(self, key: str, name: str, folder: str) -> Json | None:
        try:
            record = _object(self._read(CELLS, key, folder, f"{name}.json"))
            scores = self._read(CELLS, key, folder, f"{name}.parquet")
            return record if hashlib.sha256(scores).hexdigest() == record["checksum"] else None
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def read_later_scores(self, key: str, name: str, folder: str = DETECTORS) -> pa.Table:
        """Return the scores of what came later, a row per image; raise as read_scores does."""
        return self._read_table(CELLS, key, folder, f"{name}.parquet")

    def read_all_later(self, keys: Iterable[str], folder: str = DETECTORS) -> dict[str, dict[str, Json]]:
        """Return the records of what came later by key and name, read by many threads."""
        wanted = list(keys)
        with ThreadPoolExecutor(THREADS) as pool:
            found = zip(wanted, pool.map(lambda key: self.read_later(key, folder), wanted), strict=True)
            return {key: records for key, records in found if records}

    # Files

    def every_file(self) -> list[str]:
        """Return the paths of all files of the sweep within its folder, in order."""
        root = f"{self._path()}/"
        found = self._files.listing(self._path(), recursive=True)
        files = (info for info in found if info.type == pafs.FileType.File)
        return sorted(info.path.removeprefix(root) for info in files)

    def read_file(self, *parts: str) -> bytes:
        """Return a file of the sweep as it is; raise FileNotFoundError if it is missing."""
        return self._read(*parts)

    def _holds(self, name: str) -> bool:
        return self._files.is_file(self._path(name))

    def _read(self, *parts: str) -> bytes:
        """Return a file's bytes; FileNotFoundError if it is missing, StorageAway if the storage is silent."""
        return self._files.read(self._path(*parts))

    def _write(self, data: bytes, *parts: str) -> None:
        """Write a file whole or not at all."""
        self._files.write(data, self._path(*parts))

    def _write_json(self, values: Json, *parts: str) -> None:
        self._write(_json_bytes(values), *parts)

    def _write_table(self, table: pa.Table, *parts: str) -> str:
        """Write a Parquet file and return its SHA-256."""
        data = _parquet(table)
        self._write(data, *parts)
        return hashlib.sha256(data).hexdigest()

    def _read_table(self, *parts: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self._read(*parts)))

    def _remove_folder(self, *parts: str) -> None:
        folder = self._path(*parts)
        if self._files.is_folder(folder):
            self._files.delete_folder(folder)


def sweeps_in(storage: str) -> list[str]:
    """Return the names of the sweeps of a storage folder or URI, in order."""
    fs, root = open_storage(storage)
    folders = [info.base_name for info in Files(fs).listing(root) if info.type == pafs.FileType.Directory]
    return sorted(name for name in folders if Ledger(storage, name).exists())


def _object(data: bytes) -> Json:
    """Return a JSON object; raise ValueError for anything else."""
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _json_bytes(values: Json) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def _curves(rows: Rows) -> pa.Table:
    """One row per epoch; metrics that an epoch was not evaluated for are null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _is_checkpoint(info: pafs.FileInfo) -> bool:
    """Return whether a file is a checkpoint, and not what somebody else has put beside them."""
    return re.fullmatch(r"[0-9]+-[0-9]+\.pt", info.base_name) is not None


def _latest_epoch(checkpoints: Sequence[str]) -> int:
    """Return the epoch of the first of some checkpoints, 0 without any."""
    return _numbers(checkpoints[0])[0] if checkpoints else 0


def _numbers(name: str) -> tuple[int, ...]:
    """Return (epoch, attempt) of a checkpoint's file name."""
    return tuple(map(int, name.removesuffix(CHECKPOINT_SUFFIX).split("-")))

"""The ledger of a sweep: files in one folder, each written whole or not at all.

It is the truth about the sweep. A cell is done when its result.json can be read and the Parquet files
beside it have the checksums that it states; everything else is work still to do. This module alone knows
where a file stands and what it is called.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.ledger import attempts, damage, shapes
from orchestrator.ledger.attempts import ONE_CPU, Usage
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.digest import Unsound, seal
from orchestrator.ledger.objects import Objects
from orchestrator.ledger.storage import PART, Files, flush, open_storage, reason, unfinished_of
from trainables.mistake import Mistake, one_line

SWEEP, IDENTITY, BASELINE, LOCK = "sweep.json", "identity", "baseline.json", "lock.json"
CONFIG = "sweep.toml"
LOCAL_LOCK = "lock"
CELLS, REPORT, PLUGINS, SCRATCH, DAMAGED = "cells", "report", "plugins", "ray", "damaged"
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
    guard: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    """Called before each write, which it refuses by raising; it stays in its process."""

    @cached_property
    def _root(self) -> tuple[pafs.FileSystem, str]:
        return open_storage(self.storage)

    def __getstate__(self) -> Json:
        """Include the resolved root, since a relative folder is relative to the sending process."""
        fields = {"storage": self.storage, "name": self.name, "patience": self.patience}
        return {**fields, "_root": self._root}

    def with_patience(self, seconds: float) -> Ledger:
        """Return the same ledger, whose calls are repeated for so long while the storage does not answer."""
        other = replace(self, patience=seconds)
        other.__dict__["_root"] = self._root  # a relative folder stays where it is
        return other

    @property
    def _files(self) -> Files:
        return Files(self._root[0], self.patience, self.objects, self.guard)

    @cached_property
    def objects(self) -> Objects | None:
        """The bucket's conditional writes; None in a folder, and in stores without a client for them."""
        fs, path = self._root
        real = type(fs).__module__.startswith("pyarrow.")
        return Objects.of(self.storage, path) if real and not self._root_is_local else None

    @property
    def _root_is_local(self) -> bool:
        return isinstance(self._root[0], pafs.LocalFileSystem)

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
        return self._path() if self._root_is_local else None

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

    def has_storage(self) -> bool:
        """Return whether there is a folder for sweeps."""
        return self._files.is_folder(self._root[1])

    def discard(self, *, storage: bool) -> None:
        """Remove all of a sweep that was refused before it began, and the storage folder if it is empty."""
        self._remove_folder()
        if storage and self.local_folder is not None:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self.local_folder))

    def holds_baseline(self) -> bool:
        """Return whether the folder was written by version 0.1's baseline command, whose files differ."""
        return self._holds(BASELINE)

    def begun(self) -> bool:
        """Return whether any cell has begun."""
        return self._files.is_folder(self._path(CELLS))

    def identity(self) -> str:
        """Return what tells this ledger from every other one, even of the same name; made once and kept.

        It stands in sweep.json and in a file of its own, and either of them restores the other. MLflow's runs
        bear it.
        """
        return self._identity

    @cached_property
    def _identity(self) -> str:
        of_sweep, kept = self._identity_in_sweep(), self._kept_identity()
        identity = of_sweep or kept or self._made_identity()
        if kept == identity:
            return identity
        data, path = identity.encode(), self._path(IDENTITY)
        if of_sweep is None and not self._files.create(data, path, 1):
            there = self._kept_identity()  # another process has made one meanwhile
            if there is not None:
                return there
        self._files.write(data, path)
        return identity

    def known_identity(self) -> str | None:
        """Return the identity without making one or restoring its file; None if there is none."""
        return self._identity_in_sweep() or self._kept_identity()

    def _kept_identity(self) -> str | None:
        """Return what the file says; None if it is not there or not whole."""
        try:
            return _identity_in(self._read(IDENTITY).decode(errors="replace").strip())
        except FileNotFoundError:
            return None

    def _identity_in_sweep(self) -> str | None:
        try:
            return _identity_in(damage.read_sweep(self._read(SWEEP)).get(IDENTITY))
        except (FileNotFoundError, Unsound):
            return None

    def _made_identity(self) -> str:
        """Return a new identity or, of cells that have begun and have lost theirs, always the same one."""
        if not self.begun():
            return uuid.uuid4().hex
        print(
            f"The identity of the sweep {self.name!r} was lost, and it has another one now: MLflow's runs "
            "from before bear the former.",
            file=sys.stderr,
        )
        keys = json.dumps([self.name, min(self.keys(), default="")])
        return hashlib.sha256(keys.encode()).hexdigest()[:32]

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
            place = self.storage if self.local_folder is None else os.path.dirname(self.local_folder)
            raise Mistake(
                f"There is no sweep {self.name!r} in {place}; sweeps there: {known}. "
                "If it is elsewhere, say where with --storage."
            )
        try:
            values = damage.read_sweep(self._read(SWEEP))
        except Unsound as problem:
            raise Mistake(
                f"{self._uri(SWEEP)} {problem}: give the sweep's whole command line again, with --name "
                f"{self.name}, which writes it anew and keeps every cell that is done; or restore the file "
                "from a copy."
            ) from None
        values.pop(IDENTITY, None)
        return values

    def sweep_damage(self) -> Damage | None:
        """Return what is wrong with sweep.json; None if it is whole or not there."""
        return self._sound(damage.read_sweep, SWEEP)[1]

    def foreign_sweep(self, detail: object) -> Mistake:
        """Return the Mistake that says that sweep.json was not written by this version."""
        return Mistake(
            f"{self._path(SWEEP)} is not a sweep of this version (at {detail}): go on with the "
            "version that wrote it, or restore the file from a copy."
        )

    def write_sweep(self, values: Json) -> None:
        """Write sweep.json; raise Mistake if the storage cannot be written."""
        try:
            self._write_json({**values, IDENTITY: self.identity()}, SWEEP)
            if self.local_folder is not None:
                flush(self._path(SWEEP))  # cells guard themselves by checksums; this file does not
        except OSError as error:
            raise self.unwritable(error) from None

    def write_config(self, text: str) -> None:
        """Write sweep.toml, the last whole command line, for people; raise Mistake as write_sweep does."""
        try:
            self._write(text.encode(errors="replace"), CONFIG)
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

    def guarded(self, check: Callable[[], None]) -> Ledger:
        """Return the same ledger with a check before each write, which is not sent to other processes."""
        other = replace(self, guard=check)
        other.__dict__["_root"] = self._root
        return other

    def check(self) -> None:
        """Raise LockLost if the sweep's lock is another's; to be called before writing to anything else."""
        if self.guard is not None:
            self.guard()

    @property
    def lock_path(self) -> str:
        """The path of the lock of an object store."""
        return self._path(LOCK)

    @property
    def lock_uri(self) -> str:
        """The lock of an object store as a person writes it."""
        return self._uri(LOCK)

    def lock_probe(self, token: str) -> str:
        """Return the path of a file by which a store's conditional writes are tried."""
        return self._path(f"{LOCK}.{token}")

    @property
    def lock_file(self) -> str | None:
        """The file that a driver locks; None on object stores, where the lock is what a file says."""
        return None if self.local_folder is None else self._path(LOCAL_LOCK)

    def read_lock(self) -> Json:
        """Return what the lock says of its owner, empty if there is none to read."""
        try:
            return _object(self._read(LOCK if self.local_folder is None else LOCAL_LOCK))
        except (FileNotFoundError, ValueError):
            return {}

    def write_lock(self, values: Json) -> None:
        """Write the lock of an object store, whatever is there."""
        self._write(json.dumps(values).encode(), LOCK)

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
            if self._files.create(seal(record), path, attempt):
                break
        with contextlib.suppress(Superseded):  # it says so when this one writes
            self._write_as(key, attempt, seal({**about, "attempts": attempt}), CELL)
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
        for record in self.attempts_at(key):
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
            found = zip(wanted, pool.map(self.attempts_at, wanted), strict=True)
            return {key: records for key, records in found if records}

    def attempts_at(self, key: str) -> list[Json]:
        """Return the records of the attempts at a cell, the first attempt first."""
        found = (self._read_attempt(key, number) for number in self._attempt_numbers(key))
        return [record for record in found if record is not None]

    def _attempt_numbers(self, key: str) -> list[int]:
        """Return the numbers of the attempts that left a record, in order."""
        names = (info.base_name for info in self._files.listing(self._path(CELLS, key, ATTEMPTS)))
        numbers = (attempts.number_of(name) for name in names)
        return sorted(number for number in numbers if number is not None)

    def _read_attempt(self, key: str, number: int) -> Json | None:
        try:
            return attempts.read(self._read(CELLS, key, ATTEMPTS, attempts.file_name(number)), number)
        except (FileNotFoundError, Unsound):
            return None

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
            self._files.write_if(check, seal(record), path, number)

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

    def clear_left_behind(self, done: Iterable[str], *, keep_checkpoints: bool) -> None:
        """Remove what dead drivers and attempts had no time to remove; for the owner of the sweep's lock.

        That is what they had written in part, but for cells that are not done, which the next attempt clears;
        and the checkpoints of those that are done.
        """
        if self.local_folder is not None:
            for folder in (Path(self._path()), Path(self._path(REPORT))):
                for left in folder.glob(f"*{PART}"):
                    left.unlink(missing_ok=True)

        def clear(key: str) -> None:
            self._clear_unfinished(key, before=sys.maxsize)
            if not keep_checkpoints:
                with contextlib.suppress(FileNotFoundError):  # its attempt is removing them itself
                    self.remove_checkpoints(key)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(clear, done))

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
        found = self._files.listing(self._path(CELLS))
        return {info.base_name for info in found if info.type == pafs.FileType.Directory}

    def read_cell(self, key: str) -> Json:
        """Return a cell's cell.json, empty if there is none that is whole."""
        try:
            return damage.read_cell(self._read(CELLS, key, CELL), key)
        except (FileNotFoundError, Unsound):
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

    # Cells: rungs

    def write_rung(self, key: str, attempt: int, epoch: int, value: float) -> None:
        """Write a search cell's validation accuracy at a rung; raise Superseded for an older attempt."""
        self._write_as(key, attempt, seal({"epoch": epoch, "value": value}), rung_name(epoch))

    def read_rungs(self, keys: Iterable[str]) -> tuple[dict[str, dict[int, float]], list[Damage]]:
        """Return the values of cells at the rungs that they have reached, and the damaged records."""
        present = self.keys()
        wanted = [key for key in keys if key in present]
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(wanted, pool.map(self._rungs_at, wanted), strict=True))
        values = {key: values for key, (values, _) in found.items() if values}
        return values, [each for _, damages in found.values() for each in damages]

    def _rungs_at(self, key: str) -> tuple[dict[int, float], list[Damage]]:
        names = [info.base_name for info in self._files.listing(self._path(CELLS, key))]
        values: dict[int, float] = {}
        found: list[Damage] = []
        for name in sorted(filter(_is_rung, names)):
            record, problem = self._sound(damage.read_rung, CELLS, key, name, cell=False)
            if record is not None and rung_name(record["epoch"]) == name:
                values[record["epoch"]] = record["value"]
            elif problem is not None or record is not None:
                found.append(problem or Damage(f"{CELLS}/{key}/{name}", "is of another rung"))
        return values, found

    # Cells: curves, scores, results

    def write_curves(self, key: str, attempt: int, rows: Rows) -> None:
        """Write a cell's curves so far; raise Superseded for an older attempt."""
        self._write_as(key, attempt, _parquet(_curves(rows)), CURVES)

    def read_curves(self, key: str) -> list[dict[str, Any]]:
        """Return a cell's curves, one row per epoch; empty if there are none that can be read."""
        try:
            rows = self._read_table(CELLS, key, CURVES).to_pylist()
        except (FileNotFoundError, pa.ArrowException, ValueError):
            return []
        return rows if shapes.are_curves(rows) else []

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

        `image_sets` has the scores of image sets by name. `about` holds what may differ between equal runs,
        and stands under "attempt". If another attempt has finished the cell, its result is returned, and
        nothing is written. Raises Superseded for an older attempt.
        """
        there = self.read_result(key)
        if there is not None:
            return there
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
        return self._write_result(key, attempt, result)

    def _write_result(self, key: str, attempt: int, result: Json) -> Json:
        """Write a cell's result unless there is one that is whole; return the one that counts."""
        self.check_newest(key, attempt)
        if not self.read_cell(key):  # with which the cell would not be done; the next attempt writes it again
            raise RuntimeError(f"{CELLS}/{key}/{CELL} was damaged while the cell ran")
        path = self._path(CELLS, key, RESULT)
        if self.local_folder is not None:
            with contextlib.suppress(OSError):  # a result without it is not done
                flush(self._path(CELLS, key, CELL))
        if not self._files.create(seal(result), path, attempt, durable=True):
            there = self.read_result(key)
            if there is not None:
                return there
            self._write_as(key, attempt, seal(result), RESULT)  # in place of one that is damaged
        self._clear_unfinished(key, before=attempt + 1)
        return result

    def _write_table_as(self, key: str, attempt: int, table: pa.Table, name: str) -> str:
        """Write a Parquet file of a cell as _write_as does, and return its SHA-256."""
        data = _parquet(table)
        self._write_as(key, attempt, data, name)
        return hashlib.sha256(data).hexdigest()

    def read_result(self, key: str) -> Json | None:
        """Return a cell's result if it is done, else None."""
        return self._examine(key)[0]

    def read_results(self, keys: Iterable[str]) -> dict[str, Json]:
        """Return the results of those cells that are done, read by many threads."""
        return self.examine(keys)[0]

    def examine(self, keys: Iterable[str]) -> tuple[dict[str, Json], list[Damage]]:
        """Return the results of the cells that are done, and what keeps others from being done.

        A cell is done if its cell.json, its result.json and the Parquet files beside them are whole.
        """
        present = self.keys()
        wanted = [key for key in keys if key in present]
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(wanted, pool.map(self._examine, wanted), strict=True))
        done = {key: result for key, (result, _) in found.items() if result is not None}
        return done, [each for _, damages in found.values() for each in damages]

    def _examine(self, key: str) -> tuple[Json | None, list[Damage]]:
        """Return a cell's result if it is done, and what is wrong with its files."""
        about, of_cell = self._sound(lambda data: damage.read_cell(data, key), CELLS, key, CELL)
        result, of_result = self._sound(lambda data: damage.read_result(data, key), CELLS, key, RESULT)
        found = [each for each in (of_cell, of_result) if each is not None]
        if result is None:
            return None, found
        if about is None and of_cell is None:
            found.append(Damage(f"{CELLS}/{key}/{CELL}", "is missing, though the cell has a result", key))
        sums = {**result["checksums"], **result["attempt"]["checksums"]}
        found += [each for name, stated in sums.items() if (each := self._mismatch(key, name, stated))]
        return (None if found else result), found

    def _mismatch(self, key: str, name: str, stated: object) -> Damage | None:
        """Return what is wrong with a file whose checksum a result states."""
        path = f"{CELLS}/{key}/{name}"
        try:
            found = hashlib.sha256(self._read(path)).hexdigest()
        except FileNotFoundError:
            return Damage(path, f"is missing, though {RESULT} vouches for it", key)
        return (
            None if found == stated else Damage(path, f"does not have the checksum that {RESULT} states", key)
        )

    def _sound(
        self, read: Callable[[bytes], Json], *parts: str, cell: bool = True
    ) -> tuple[Json | None, Damage | None]:
        """Return a file's content by the function that reads it, or what is wrong with it, if it is there.

        `cell` says whether a cell is done only if the file is whole.
        """
        try:
            return read(self._read(*parts)), None
        except FileNotFoundError:
            return None, None
        except Unsound as problem:
            key = parts[1] if cell and parts[0] == CELLS else None
            return None, Damage("/".join(parts), str(problem), key)

    def damaged(self, keys: Iterable[str]) -> list[Damage]:
        """Return what is wrong with the files of the sweep and of these cells, by many threads.

        Unlike `examine` it reads the records of attempts and of what came later, and the kept weights.
        """
        present = self.keys()
        wanted = [key for key in keys if key in present]
        done, found = self.examine(wanted)
        of_sweep = self.sweep_damage()
        with ThreadPoolExecutor(THREADS) as pool:
            beside = pool.map(lambda key: self._examine_beside(key, done.get(key)), wanted)
            return [*([of_sweep] if of_sweep else []), *found, *(each for some in beside for each in some)]

    def _examine_beside(self, key: str, result: Json | None) -> list[Damage]:
        """Return what is wrong with a cell's records, none of which its being done needs, and its weights."""
        found: list[Damage | None] = [*self._rungs_at(key)[1]]
        for number in self._attempt_numbers(key):
            read = functools.partial(attempts.read, number=number)
            parts = (CELLS, key, ATTEMPTS, attempts.file_name(number))
            found.append(self._sound(read, *parts, cell=False)[1])
        for folder, name in [(f, n) for f in (DETECTORS, LATER_SETS) for n in self._later_names(key, f)]:
            parts = (CELLS, key, folder, f"{name}.json")
            read = functools.partial(damage.read_later, detector=folder == DETECTORS)
            record, problem = self._sound(read, *parts, cell=False)
            if record is not None and self._read_later(key, name, folder) is None:
                path = f"{CELLS}/{key}/{folder}/{name}.parquet"
                problem = Damage(path, "is missing, or other than its record states")
            found.append(problem)
        if result is not None and result.get("weights") and self.read_weights(result) is None:
            path = f"{CELLS}/{key}/{WEIGHTS}"
            found.append(Damage(path, f"is missing, or does not have the checksum that {RESULT} states", key))
        return [each for each in found if each is not None]

    def set_aside(self, found: Damage) -> None:
        """Move a damaged file into the folder of damaged ones; for the owner of the sweep's lock.

        Of a cell the result goes, too, so that the cell is run again; of what came later, its record.
        """
        paths = [found.path]
        if found.key is not None:
            paths.append(f"{CELLS}/{found.key}/{RESULT}")
        elif found.path.endswith(".parquet"):
            paths.append(f"{found.path.removesuffix('.parquet')}.json")
        for path in dict.fromkeys(paths):
            with contextlib.suppress(FileNotFoundError):
                self._files.move(self._path(path), self._free_place(path))

    def _free_place(self, path: str) -> str:
        """Return where a damaged file goes: the same path below the folder of damaged ones, with a number."""
        for number in itertools.count(1):
            place = self._path(DAMAGED, f"{path}.{number}")
            if not self._files.is_file(place):
                return place
        raise AssertionError

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
        found = {name: self._read_later(key, name, folder) for name in self._later_names(key, folder)}
        return {name: record for name, record in found.items() if record is not None}

    def _later_names(self, key: str, folder: str) -> list[str]:
        names = [info.base_name for info in self._files.listing(self._path(CELLS, key, folder))]
        return [name.removesuffix(".json") for name in sorted(names) if name.endswith(".json")]

    def _read_later(self, key: str, name: str, folder: str) -> Json | None:
        try:
            data = self._read(CELLS, key, folder, f"{name}.json")
            record = damage.read_later(data, detector=folder == DETECTORS)
            scores = self._read(CELLS, key, folder, f"{name}.parquet")
            return record if hashlib.sha256(scores).hexdigest() == record["checksum"] else None
        except (FileNotFoundError, Unsound):
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
        self._write(seal(values), *parts)

    def _write_table(self, table: pa.Table, *parts: str) -> str:
        """Write a Parquet file and return its SHA-256."""
        data = _parquet(table)
        self._write(data, *parts)
        return hashlib.sha256(data).hexdigest()

    def _read_table(self, *parts: str) -> pa.Table:
        data = self._read(*parts)
        try:
            return pq.read_table(pa.BufferReader(data))
        except OSError as error:  # pyarrow's, of a file that is not whole; the storage has answered
            raise pa.ArrowInvalid(one_line(error)) from error

    def _remove_folder(self, *parts: str) -> None:
        folder = self._path(*parts)
        if self._files.is_folder(folder):
            self._files.delete_folder(folder)


def write_reproduction(storage: str, table: str, data: bytes) -> str:
    """Write a table of the paper beside the sweeps that it is made of, and return where it is.

    Raises Mistake if the storage cannot be written.
    """
    folder = Ledger(storage, f"reproduce-{table}")
    try:
        folder._write(data, "table.md")
    except OSError as error:
        raise folder.unwritable(error) from None
    return folder._uri("table.md")


def sweeps_in(storage: str) -> list[str]:
    """Return the names of the sweeps of a storage folder or URI, in order."""
    fs, root = open_storage(storage)
    folders = [info.base_name for info in Files(fs).listing(root) if info.type == pafs.FileType.Directory]
    return sorted(name for name in folders if Ledger(storage, name).exists())


def _identity_in(found: object) -> str | None:
    """Return an identity that is whole, else None."""
    return found if isinstance(found, str) and re.fullmatch("[0-9a-f]{32}", found) else None


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


def _curves(rows: Rows) -> pa.Table:
    """One row per epoch; metrics that an epoch was not evaluated for are null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _is_checkpoint(info: pafs.FileInfo) -> bool:
    """Return whether a file is a checkpoint, and not what somebody else has put beside them."""
    return re.fullmatch(r"[0-9]+-[0-9]+\.pt", info.base_name) is not None


def rung_name(epoch: int) -> str:
    """Return the name of a cell's record of a rung."""
    return f"rung-{epoch}.json"


def _is_rung(name: str) -> bool:
    return re.fullmatch(r"rung-[1-9][0-9]{0,8}\.json", name) is not None


def _latest_epoch(checkpoints: Sequence[str]) -> int:
    """Return the epoch of the first of some checkpoints, 0 without any."""
    return _numbers(checkpoints[0])[0] if checkpoints else 0


def _numbers(name: str) -> tuple[int, ...]:
    """Return (epoch, attempt) of a checkpoint's file name."""
    return tuple(map(int, name.removesuffix(CHECKPOINT_SUFFIX).split("-")))

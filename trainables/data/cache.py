"""Data made ready once a node: every process of every sweep maps the same files.

A prepared data set is a folder of the cache, `<benchmark>-<source>-<content>`: two hashes, of what
identifies the source cheaply (paths, sizes and times of its files, and the form asked for) and of what it
holds (the fingerprint). In it stand train.arrow, test.arrow (image_file.py) and manifest.json. The folder
is written under another name and renamed when complete, so what bears its name is whole. A lock keeps a
second process waiting instead of doing the work again; nothing but that work depends on it.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

from trainables.data import image_file
from trainables.data.build import MANIFEST, clear_leftovers, write_folder
from trainables.data.image_table import ImageTable
from trainables.data.readers import parquet
from trainables.data.readers.request import DataRequest
from trainables.data.readers.source import SPLITS, files_under
from trainables.mistake import Mistake, unknown

LOCK_PATIENCE = 3600.0
"""Seconds after which a process no longer waits for another's work but does it itself."""

LIMITS = {
    errno.EMFILE: "let a process open more files, with ulimit -n 65536",
    errno.ENFILE: "let the system open more files (sysctl fs.file-max), or run fewer processes",
    errno.ENOMEM: "free memory, or raise the limits on it (ulimit -v, sysctl vm.max_map_count)",
}
"""What to do where a file cannot be opened for want of something that is not the file's."""

Progress = Callable[[int, int], None]


class Account:
    """What was opened on behalf of one cell, in the order in which it was first opened.

    Once the entries were handed out they are complete: what is not among them can no longer be opened.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, tuple[str, ...]], dict[str, object]] = {}
        self._given = False

    def note(self, table: ImageTable) -> None:
        """Enters a table that was opened, once; RuntimeError where the account was given without it."""
        key = (table.split, table.classes)
        if key in self._entries:
            return
        if self._given:
            raise RuntimeError(
                f"{table.split} images of {', '.join(table.classes)} were opened after the account of what "
                "the cell opens was given: open them before."
            )
        said = {"split": table.split, "classes": list(table.classes)}
        self._entries[key] = {**said, "count": len(table), "digest": table.digest}

    def give(self) -> list[dict[str, object]]:
        """Split, classes, count of images and digest of each table, as cell.json holds them."""
        self._given = True
        return [dict(entry) for entry in self._entries.values()]


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: what it holds, and the way to open parts of it.

    `fingerprint` identifies the content, wherever it came from: class names, shape, labels, pixels and
    order of both splits. `skipped` names images that could not be read and were left out.
    """

    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    fingerprint: str
    side: int
    channels: int
    skipped: tuple[str, ...]
    folder: Path = field(repr=False)
    digests: dict[str, tuple[str, ...]] = field(repr=False)
    account: Account | None = field(default=None, repr=False, compare=False)

    def accounted(self, account: Account) -> Prepared:
        """The same data, of which whatever is opened is entered into an account."""
        return replace(self, account=account)

    def open(self, split: str, classes: tuple[str, ...] | None = None) -> ImageTable:
        """Maps the images of these classes (all, if None) of one split, and of nothing else.

        Raises Mistake for a class that does not exist and where the file was altered or cannot be opened.
        """
        for name in classes or ():
            if name not in self.classes:
                raise unknown("class", name, self.classes)
        names = [name for name in self.classes if classes is None or name in classes]
        try:
            with _plain_errors(self.folder.parent):
                opened = self._map(split, names)
        except image_file.DamagedError as error:
            raise Mistake(
                f"The prepared data in {self.folder} was altered ({error}): delete that folder and run "
                "again, which prepares it anew."
            ) from error
        table = ImageTable.of(split, opened)
        if self.account is not None:
            self.account.note(table)
        return table

    def verify(self) -> None:
        """Reads every image; raises image_file.DamagedError where one is not what was prepared."""
        for split in SPLITS:
            image_file.verify(self._map(split, self.classes))

    def _map(self, split: str, names: Sequence[str]) -> list[image_file.OpenedClass]:
        opened = image_file.open_classes(str(self.folder / f"{split}.arrow"), split, names)
        for each in opened:
            if each.digest != self.digests[split][self.classes.index(each.name)]:
                raise image_file.DamagedError(f"{each.name!r} is not what was prepared")
        return opened


def prepare(
    request: DataRequest,
    fingerprint: str | None = None,
    progress: Progress | None = None,
    *,
    verify: bool = False,
) -> Prepared:
    """Opens the prepared data, preparing it first where it is missing, damaged or of another content.

    With a fingerprint, prepared data of that content is opened without a look at the source, and Mistake is
    raised where the source's content differs from it. `progress(done, total)` counts images, about ten times
    a second. With verify, every image is read and compared with its digest. Raises Mistake for data that
    is missing, cannot be read, or is not what the benchmark needs.
    """
    cache = request.cache_folder
    if fingerprint is not None:
        with _plain_errors(cache):
            found = _find(cache, f"*-{fingerprint[:16]}", fingerprint, verify)
        if found is not None and (found.side, found.channels) == (request.side, request.channels):
            return found
    with _plain_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        reader = _reader(request)
        key = f"{request.name or request.reader}-{_source_hash(request, reader)}"
        found = _find(cache, f"{key}-*", fingerprint, verify)
        if found is not None:
            return found
        with _only_one(cache / f"{key}.lock") as alone:
            found = _find(cache, f"{key}-*", fingerprint, verify)
            if found is None:
                clear_leftovers(cache, key, alone)
                found = _publish(cache, key, write_folder(request, reader, cache, key, progress), verify)
    if fingerprint is not None and found.fingerprint != fingerprint:
        raise Mistake(
            f"The data at {request.path} on this node ({platform.node()}) differs from the sweep's "
            f"(fingerprint {found.fingerprint[:16]}, the sweep's is {fingerprint[:16]}): give every node the "
            "same data, or start another sweep for this data."
        )
    return found


def _reader(request: DataRequest) -> ModuleType:
    if parquet.find(request) is not None:
        return parquet
    return importlib.import_module(f"trainables.data.readers.{request.reader}")


def _source_hash(request: DataRequest, reader: ModuleType) -> str:
    """The hash of what identifies the source without reading it."""
    listing = []
    for source in reader.sources(request):
        for path in files_under(source) if os.path.isdir(source) else [source]:
            about = os.stat(path)
            listing.append([os.path.abspath(path), about.st_size, about.st_mtime_ns])
    form = [request.side, request.channels, request.skip_bad_images, request.classes, request.name]
    # The name under which version 0.1 knew the reader: what it prepared is found, not prepared again.
    name = f"trainables.readers.{reader.__name__.rpartition('.')[2]}"
    described = json.dumps([image_file.FORMAT, name, form, listing])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _find(cache: Path, pattern: str, fingerprint: str | None, verify: bool) -> Prepared | None:
    """The first sound prepared folder whose name and, if given, fingerprint match.

    OSError where one cannot be read that may be sound: it is not to be prepared again, nor replaced.
    """
    for folder in sorted(cache.glob(pattern)):
        try:
            found = _open_folder(folder)
            if verify:
                found.verify()
        except image_file.DamagedError:
            continue
        if fingerprint in (None, found.fingerprint):
            return found
    return None


def _open_folder(folder: Path) -> Prepared:
    """What the manifest says, if it agrees with itself and the files have their length; raises DamagedError.

    No image file is opened: a search run must be able to do without the test file.
    """
    try:
        said = json.loads((folder / MANIFEST).read_text())
        if said["fingerprint"] != image_file.fingerprint(said):
            raise image_file.DamagedError(f"{folder}: the fingerprint is not that of the content")
        for split in SPLITS:
            if (folder / f"{split}.arrow").stat().st_size != said["bytes"][split]:
                raise image_file.DamagedError(f"{folder}: {split}.arrow does not have its length")
        return Prepared(
            classes=tuple(said["classes"]),
            counts={split: tuple(said["counts"][split]) for split in SPLITS},
            fingerprint=said["fingerprint"],
            side=said["side"],
            channels=said["channels"],
            skipped=tuple(said["skipped"]),
            folder=folder,
            digests={split: tuple(said["digests"][split]) for split in SPLITS},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not image_file.says_damage(error):
            raise
        raise image_file.DamagedError(f"{folder}: {error}") from error


def _publish(cache: Path, key: str, written: Path, verify: bool) -> Prepared:
    """Gives the written folder its name, in place of whatever else this source had, unless it is there."""
    prepared = _open_folder(written)
    name = cache / f"{key}-{prepared.fingerprint[:16]}"
    found = _find(cache, name.name, prepared.fingerprint, verify)
    if found is not None:
        shutil.rmtree(written)
        return found
    for place, other in enumerate(sorted(cache.glob(f"{key}-*"))):
        # Renamed first: whoever has it mapped keeps it, and nobody opens it half deleted.
        refused = written.with_name(f"{written.name}.refused{place}")
        os.rename(other, refused)
        shutil.rmtree(refused)
    os.rename(written, name)
    return _open_folder(name)


@contextmanager
def _only_one(path: Path) -> Iterator[bool]:
    """Holds the lock, which ends with its process; False where there can be none or it takes too long."""
    lock = FileLock(path, timeout=LOCK_PATIENCE)
    try:
        lock.acquire()
    except (Timeout, NotImplementedError):
        yield False
        return
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def _plain_errors(cache: Path) -> Iterator[None]:
    """Turns what the file system refuses into Mistakes."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or "")
        if error.errno in LIMITS:
            raise Mistake(
                f"{where or cache} cannot be opened ({error.strerror}): {LIMITS[error.errno]}, and run again."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Mistake(
                f"There is no room left for the prepared data in {cache}: free some, or name another folder "
                "with --cache."
            ) from error
        if where.startswith(str(cache)):
            raise Mistake(
                f"The folder for prepared data, {cache}, cannot be used ({error.strerror}: {where}): name "
                "another one with --cache."
            ) from error
        if isinstance(error, PermissionError | FileNotFoundError):
            raise Mistake(
                f"{where} cannot be read ({error.strerror}): check the path and its rights."
            ) from error
        raise

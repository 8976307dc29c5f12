"""The cache of prepared data, made once per node: every process of every sweep maps the same files.

A folder of the cache is named `<benchmark>-<source>-<content>` with two hashes: one of what identifies the
source cheaply (paths, sizes and times of its files, and the form asked for), and one of its content, the
fingerprint. It is written under another name and renamed when complete, so a folder with such a name is
whole. A lock makes a second process wait instead of doing the work again; correctness does not depend on it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trainables.data import image_file
from trainables.data.build import PREPARING, write_folder
from trainables.data.file_errors import explained
from trainables.data.prepared import Prepared, open_folder
from trainables.data.readers.finding import find_reader
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import DataRequest
from trainables.data.readers.source import check_source, files_under
from trainables.heartbeat import beat
from trainables.mistake import Mistake

LOCK_TRY, LOCK_TIMEOUT = 1.0, 3600.0
"""Seconds for which a process waits for another's work, at a time and in all, before it does it itself."""
ABANDONED_AFTER = 3600.0
"""Seconds without a write after which another machine's unfinished folder counts as abandoned."""

Progress = Callable[[int, int], None]


def prepare(
    request: DataRequest,
    fingerprint: str | None = None,
    progress: Progress | None = None,
    *,
    verify: bool = False,
) -> Prepared:
    """Open the prepared data; prepare it first if it is missing, damaged or has another content.

    With a fingerprint, prepared data with that content is opened without access to the source, and Mistake is
    raised if the source's content differs from it. `progress(done, total)` counts images, about ten times per
    second. With `verify`, every image is read and compared with its digest. Raise Mistake for data that is
    missing, cannot be read, or is not what the benchmark needs.
    """
    cache = request.cache_folder
    if fingerprint is not None:
        with explained(cache):
            found = _find(cache, f"*-{fingerprint[:16]}", fingerprint, verify)
        if found is not None and (found.side, found.channels) == (request.side, request.channels):
            return found
    with explained(cache):
        cache.mkdir(parents=True, exist_ok=True)
        reader = find_reader(request)
        key = f"{request.name or request.reader}-{_source_hash(request, reader)}"
        found = _find(cache, f"{key}-*", fingerprint, verify)
        if found is not None:
            return found
        with _exclusive(cache / f"{key}.lock") as locked:
            found = _find(cache, f"{key}-*", fingerprint, verify)
            if found is None:
                _clear_leftovers(cache, key, locked)
                written = _write_hidden(request, reader, cache, key, progress)
                found = _publish(cache, key, written, verify)
    if fingerprint is not None and found.fingerprint != fingerprint:
        raise Mistake(
            f"The data at {request.path} on this node ({platform.node()}) differs from the sweep's "
            f"(fingerprint {found.fingerprint[:16]}, the sweep's is {fingerprint[:16]}): give every node the "
            "same data, or start another sweep for this data."
        )
    return found


def _source_hash(request: DataRequest, reader: Reader) -> str:
    """Return the hash of what identifies the source without reading its content."""
    listing = []
    for source in reader.sources(request):
        for path in files_under(source) if os.path.isdir(source) else [source]:
            beat("listing the data")
            listing.append([os.path.abspath(path), *_size_and_time(path)])
    form = [request.side, request.channels, request.skip_bad_images, request.classes, request.name]
    form += [request.groups] if request.groups else []
    # The reader's module in version 0.1, so that what it prepared is found and not prepared again.
    name = f"trainables.readers.{reader.identity}"
    described = json.dumps([image_file.FORMAT, name, form, listing])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _size_and_time(path: str) -> tuple[int, int]:
    """Return a file's size and time of change; -1 for a link that leads nowhere, which may be no image."""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP) or not os.path.islink(path):
            raise
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _find(cache: Path, pattern: str, fingerprint: str | None, verify: bool) -> Prepared | None:
    """Return the first sound folder whose name and, if given, fingerprint match.

    Raise OSError if one that may be sound cannot be read: it must be neither prepared again nor replaced.
    """
    for folder in sorted(cache.glob(pattern)):
        try:
            found = open_folder(folder)
            if verify:
                found.verify()
        except image_file.DamagedError:
            continue
        if fingerprint in (None, found.fingerprint):
            return found
    return None


def _write_hidden(
    request: DataRequest, reader: Reader, cache: Path, key: str, progress: Progress | None
) -> Path:
    """Read the source, write it into a new, hidden folder of the cache, and return that folder."""
    beat(PREPARING)
    source = reader.read(request)
    check_source(source, request)
    folder = cache / f".{key}.{platform.node()}.{os.getpid()}.{secrets.token_hex(4)}.partial"
    folder.mkdir()
    try:
        write_folder(source, request, folder, progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _publish(cache: Path, key: str, written: Path, verify: bool) -> Prepared:
    """Rename the written folder, in place of all others of this source, unless its content is there."""
    prepared = open_folder(written)
    name = cache / f"{key}-{prepared.fingerprint[:16]}"
    found = _find(cache, name.name, prepared.fingerprint, verify)
    if found is not None:
        shutil.rmtree(written)
        return found
    for place, other in enumerate(sorted(cache.glob(f"{key}-*"))):
        # Renamed first: a process that has mapped it keeps it, and none opens it half deleted.
        refused = written.with_name(f"{written.name}.refused{place}")
        os.rename(other, refused)
        shutil.rmtree(refused) if refused.is_dir() else refused.unlink()
    os.rename(written, name)
    return open_folder(name)


def _clear_leftovers(cache: Path, key: str, locked: bool) -> None:
    """Remove what interrupted preparations left behind.

    With the lock held, the process that wrote an unfinished folder of this source and machine has ended.
    Other folders are judged by their age.
    """
    own = f".{key}.{platform.node()}."
    for folder in cache.glob(".*.partial*"):
        try:
            written = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
        except OSError:  # another process is removing it
            continue
        if (locked and folder.name.startswith(own)) or time.time() - written > ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def _acquire(lock: FileLock) -> None:
    """Take a lock, with a sign of life at each try; raise Timeout if it takes too long."""
    over = time.monotonic() + LOCK_TIMEOUT
    while True:
        beat("waiting for another process that prepares the data")
        try:
            lock.acquire()
        except Timeout:
            if time.monotonic() > over:
                raise
        else:
            return


@contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    """Hold a lock, which ends with its process; give False if there can be none or it takes too long."""
    lock = FileLock(path, timeout=LOCK_TRY)
    try:
        _acquire(lock)
    except (Timeout, NotImplementedError):  # the library's word for a file system without locks
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

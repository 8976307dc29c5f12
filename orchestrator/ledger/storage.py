"""Files of a folder or bucket, each written whole or not at all; a silent storage is asked again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.ledger.objects import Objects
from trainables.heartbeat import beat, rest
from trainables.mistake import Mistake, one_line

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds between two tries while the storage does not answer: the first, and the longest after doubling."""

LASTING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
"""Errors that waiting does not mend."""

FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors that waiting mends if somebody makes room."""
FULL_SECONDS = 60.0
"""How long room is waited for at most, by those who wait for a storage at all."""

PART = ".part"
"""How names end while a file is written."""
LONGEST_TURN = 5.0
"""Seconds for which a process waits while others rename files in a folder, which takes microseconds."""

WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems that give a file no second name."""

T = TypeVar("T")


class StorageAway(OSError):
    """The storage cannot be read or written now, which says nothing about what it holds."""


def open_storage(storage: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a folder or URI and the path within it; raise Mistake for an invalid URI."""
    if "://" not in storage:
        return pafs.LocalFileSystem(), absolute_path(storage)
    try:
        fs, path = pafs.FileSystem.from_uri(storage)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Mistake(
            f"The storage {storage!r} is not valid ({reason(error)}): give a folder, or a URI such as "
            "s3://bucket/folder or gs://bucket/folder."
        ) from None
    if not path.strip("/"):
        raise Mistake(
            f"The storage {storage!r} names no bucket or folder: give one, such as {storage.rstrip('/:')}"
            "://bucket/folder."
        )
    return fs, path.rstrip("/")


def default_storage() -> str:
    """Return where sweeps are kept if nothing is said: runs/ in the cluster's bucket, else ./runs."""
    bucket = os.environ.get("HOLDOUT_BUCKET")
    return f"{bucket.rstrip('/')}/runs" if bucket else "./runs"


def absolute_path(path: str) -> str:
    """Return a path that means the same in every process of this machine: without ~ and from the root."""
    return os.path.abspath(os.path.expanduser(path))


def no_answer(storage: str, error: StorageAway) -> Mistake:
    """Return the Mistake that says that a storage went away in the middle of something."""
    return Mistake(
        f"The storage {storage} does not answer ({error.strerror}): check that it is there and your rights "
        "to it; what is done is not lost."
    )


def unreadable(storage: str, error: OSError) -> Mistake:
    """Return the Mistake that says that a storage cannot be read."""
    return Mistake(
        f"The storage {storage} cannot be read ({reason(error)}): give the one that holds the sweep, "
        "with --storage."
    )


@dataclass(frozen=True)
class Files:
    """What a sweep does with a file system; a missing file is told apart from a storage that is silent."""

    fs: pafs.FileSystem
    patience: float = 0.0
    """Seconds for which a call is repeated while the storage does not answer."""
    objects: Objects | None = None
    """Conditional writes of an object store."""
    guard: Callable[[], None] | None = None
    """Called right before each change; it raises if none may be made."""

    @property
    def local(self) -> bool:
        """Whether it is this machine's file system, network folders included."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    def is_file(self, path: str) -> bool:
        """Return whether there is a file at a path."""
        return bool(self._info(path).type == pafs.FileType.File)

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder at a path."""
        return bool(self._info(path).type == pafs.FileType.Directory)

    def _info(self, path: str) -> pafs.FileInfo:
        return self._try(lambda: self.fs.get_file_info(path))

    def listing(self, folder: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """Return what a folder holds, or it and all folders in it; nothing if it does not exist."""
        selector = pafs.FileSelector(folder, allow_not_found=True, recursive=recursive)
        try:
            return self._try(lambda: self.fs.get_file_info(selector))
        except FileNotFoundError:
            return []

    def read(self, path: str) -> bytes:
        """Return a file's bytes; raise FileNotFoundError if it does not exist."""

        def read() -> bytes:
            with self.fs.open_input_file(path) as file:
                return bytes(file.read())

        return self._try(read)

    def write(self, data: bytes, path: str) -> None:
        """Write a file whole: aside, then renamed; an object store's put is whole by itself."""
        self._change(lambda: self._replace(data, path) if self.local else self._put(data, path))

    def write_if(self, check: Callable[[], None], data: bytes, path: str, writer: int) -> None:
        """Write a file whole if a check, which is made last of all, does not raise.

        Whoever passes the check later than another writes later, too. What is written aside bears the
        writer's number.
        """
        write = self._replace_if if self.local else self._put_if
        self._change(lambda: write(check, data, path, writer))

    def create(self, data: bytes, path: str, writer: int, *, durable: bool = False) -> bool:
        """Write a file whole unless there is one; return whether it is there now with this content.

        Of several who create a file with different contents, one alone is told that it is there. A `durable`
        one is on the disk before it has its name.
        """
        if self.local:
            made = self._change(lambda: self._link(data, path, writer, durable))
        else:
            made = self._change(lambda: self._put_new(data, path))
        return made or self._same(data, path)

    def _same(self, data: bytes, path: str) -> bool:
        """Return whether a file has this content: the answer to an earlier try may have been lost."""
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False

    def delete(self, path: str) -> None:
        """Remove a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self._change(lambda: self.fs.delete_file(path))

    def move(self, source: str, target: str) -> None:
        """Move a file to a place where there is none; raise FileNotFoundError if it does not exist."""

        def move() -> None:
            if self.local:
                self.fs.create_dir(os.path.dirname(target), recursive=True)
            elif self.fs.get_file_info(source).type == pafs.FileType.NotFound:
                raise FileNotFoundError(errno.ENOENT, "no such file", source)  # S3's own error says less
            self.fs.move(source, target)

        self._change(move)

    def delete_folder(self, path: str) -> None:
        """Remove a folder with everything in it."""
        self._change(lambda: self.fs.delete_dir(path))

    def _put(self, data: bytes, path: str) -> None:
        with self.fs.open_output_stream(path) as file:
            file.write(data)

    def _put_new(self, data: bytes, path: str) -> bool:
        if self.objects is not None:
            return self.objects.put(path, data, None) is not None
        if self.fs.get_file_info(path).type != pafs.FileType.NotFound:
            return False
        self._put(data, path)
        return True

    def _put_if(self, check: Callable[[], None], data: bytes, path: str, writer: int) -> None:
        while self.objects is not None:
            version = self.objects.version(path)  # before the check: who wrote since then is seen by the put
            check()
            if self.objects.put(path, data, version) is not None:
                return
        check()
        self._put(data, path)

    def _replace(self, data: bytes, path: str) -> None:
        with self._aside(data, path) as aside:
            self.fs.move(aside, path)

    def _replace_if(self, check: Callable[[], None], data: bytes, path: str, writer: int) -> None:
        with self._aside(data, path, f"{writer}.") as aside, _one_at_a_time(os.path.dirname(path)):
            check()
            self.fs.move(aside, path)

    def _link(self, data: bytes, path: str, writer: int, durable: bool) -> bool:
        """Give a whole file its name unless the name is taken."""
        with self._aside(data, path, f"{writer}.") as aside:
            try:
                if durable:
                    flush(aside)
                os.link(aside, path)
            except FileExistsError:
                return False
            except FileNotFoundError:  # a later writer, which has cleared up, was here
                return False
            except OSError as error:
                if error.errno not in WITHOUT_LINKS:
                    raise
                return _write_new(data, path)
            finally:
                with contextlib.suppress(FileNotFoundError):  # a newer attempt has cleared up
                    os.unlink(aside)
        return True

    @contextlib.contextmanager
    def _aside(self, data: bytes, path: str, writer: str = "") -> Iterator[str]:
        """Write a file under another name, which is gone afterwards if anything failed."""
        aside = f"{path}.{writer}{uuid.uuid4().hex}{PART}"
        try:
            try:
                file = self.fs.open_output_stream(aside)
            except FileNotFoundError:
                self.fs.create_dir(os.path.dirname(path), recursive=True)
                file = self.fs.open_output_stream(aside)
            with file:
                file.write(data)
            yield aside
        except Exception:
            with contextlib.suppress(OSError):  # what is left of it would fill the disk further
                os.unlink(aside)
            raise

    def _change(self, call: Callable[[], T]) -> T:
        """Make a change as `_try` does, if the guard allows it each time."""
        if self.guard is None:
            return self._try(call)
        guard = self.guard

        def guarded() -> T:
            guard()
            return call()

        return self._try(guarded)

    def _try(self, call: Callable[[], T]) -> T:
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            beat("reading or writing the ledger")
            try:
                return call()
            except FileNotFoundError:
                raise
            except NotADirectoryError as error:  # a file stands where a folder would
                raise FileNotFoundError(error.errno, error.strerror) from error
            except OSError as error:
                full = error.errno in FULL
                patience = min(self.patience, FULL_SECONDS) if full else self.patience
                if error.errno in LASTING or time.monotonic() + pause > began + patience:
                    waited = f", after {patience:g} s of waiting for room" if full and patience else ""
                    raise StorageAway(error.errno, f"{reason(error)}{waited}") from error
            rest(pause, "waiting for the storage")
            pause = min(2 * pause, LONGEST_PAUSE)


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """Keep other processes out that want to do the same in a folder, for as long as a file is renamed.

    Where a file system cannot do that, or a process was stopped here, nobody is kept waiting.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        limit = time.monotonic() + LONGEST_TURN
        while time.monotonic() < limit:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


def unfinished_of(name: str) -> int | None:
    """Return the number of the writer of a file that is written aside, 0 if it has none; else None."""
    if not name.endswith(PART):
        return None
    found = re.search(r"\.([0-9]+)\.[0-9a-f]{32}\.part$", name)
    return int(found[1]) if found else 0


def _write_new(data: bytes, path: str) -> bool:
    """Write a file that did not exist, where the file system has no links; a reader may see part of it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with open(descriptor, "wb") as file:
        file.write(data)
    return True


def flush(path: str) -> None:
    """Make the system put a file of this machine on the disk now."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: Exception) -> str:
    """Return why a storage refused, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)

"""What to do about errors of the file system, in a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.mistake import Mistake

REMEDIES = {
    errno.EMFILE: "let a process open more files, with ulimit -n 65536",
    errno.ENFILE: "let the system open more files (sysctl fs.file-max), or run fewer processes",
    errno.ENOMEM: "free memory, or raise the limits on it (ulimit -v, sysctl vm.max_map_count)",
}
"""Remedies for limits of a process or the system, which say nothing about the file."""

OF_THE_PATH = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENXIO, errno.ENODEV),
}
"""Errors that the path itself causes, and that another try would meet again."""


@contextmanager
def explained(cache: Path | None = None) -> Iterator[None]:
    """Raise Mistake for an OSError of the source, or the cache folder if there is one, with what to do."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or "")
        if error.errno in REMEDIES:
            raise Mistake(
                f"{where or cache} cannot be opened ({error.strerror}): {REMEDIES[error.errno]}, and run "
                "again."
            ) from error
        if cache is not None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Mistake(
                f"There is no room left for the prepared data in {cache}: free some, or name another folder "
                "with --cache."
            ) from error
        if cache is not None and where.startswith(str(cache)):
            raise Mistake(
                f"The folder for prepared data, {cache}, cannot be used ({error.strerror}: {where}): name "
                "another one with --cache."
            ) from error
        if error.errno in OF_THE_PATH:
            raise Mistake(
                f"{where} cannot be read ({error.strerror}): check the path and its permissions."
            ) from error
        raise

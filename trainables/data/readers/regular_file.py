"""Opening only what is a file: a pipe, a socket or a device could make its reader wait for ever."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotAFile(ValueError):
    """A path leads to something else than a file; the message says to what."""


def open_file(path: str) -> BinaryIO:
    """Open a file to read its bytes; raise NotAFile for anything else, and OSError if it cannot be read."""
    kind = stat.S_IFMT(os.stat(path).st_mode)  # before it is opened, which alone can act on a device
    if kind != stat.S_IFREG:
        raise NotAFile(f"it is {KINDS.get(kind, 'something else')}, not a file")
    # A pipe that has taken its place since would block here without O_NONBLOCK; files do not mind.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")

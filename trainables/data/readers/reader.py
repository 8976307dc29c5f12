"""What a reader offers, and where readers are found: the modules of this folder, and plug-ins' functions.

A module has a function `sources`, which says which files identify the data, and a function `read`, which
returns the images. Three more names are optional:

- EMBEDDED says where the images come from if no --data is needed, as the beginning of a sentence;
- ORIENTED is False if the orientation that a camera noted in a file is not applied;
- class_of(label, classes) says which of a benchmark's classes a label of a larger data set means, or None.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.mistake import Mistake
from trainables.registry import PLUGIN

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest
    from trainables.data.readers.source import Source

PACKAGE = "trainables.data.readers"

Read = Callable[["DataRequest"], "Source"]


@dataclass(frozen=True)
class Reader:
    """How one kind of data is read."""

    identity: str
    """Tells this reader from every other in the names of prepared data."""
    read: Read
    """Return the classes and images, or raise Mistake if they are not what the benchmark needs."""
    sources: Callable[[DataRequest], list[str]]
    """Return the files and folders that identify the data; raise Mistake if they are missing."""
    embedded: str = ""
    """Where its images come from if it needs no --data, as the beginning of a sentence; else ""."""
    oriented: bool = True
    """Whether the orientation that a camera noted in a file is applied."""
    class_of: Callable[[str, Sequence[str]], str | None] | None = None
    """Which of the classes a label means, or None for none of them; without it a label is a class's name."""


_brought: dict[str, Reader] = {}


def brought_reader(name: str) -> Reader | None:
    """Return the reader that a plug-in brought for the benchmark with a name, or None."""
    return _brought.get(name)


def module_reader(name: str) -> Reader:
    """Return the reader that a module of this folder is; raise Mistake if there is no such module."""
    if not _is_module(name):
        raise Mistake(
            f"There is no reader {name!r}: a module of {PACKAGE.replace('.', '/')}/ or a plug-in's function "
            "reads data; give the plug-in that it came from."
        )
    module = importlib.import_module(f"{PACKAGE}.{name}")
    return Reader(
        identity=name,
        read=module.read,
        sources=module.sources,
        embedded=getattr(module, "EMBEDDED", ""),
        oriented=getattr(module, "ORIENTED", True),
        class_of=getattr(module, "class_of", None),
    )


def bring_reader(name: str, read: Read) -> None:
    """Let a function read the data of the benchmark with a name; raise Mistake if the name is taken.

    The file that defines the function is part of the identity, so that an edited reader reads again.
    """
    if name in _brought or _is_module(name):
        raise Mistake(f"The reader {name!r} exists already: choose another name for the benchmark.")
    _brought[name] = Reader(f"{name}-{_digest_of_source(read)}", read, _named_path)


def _is_module(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(f"{PACKAGE}.{name}") is not None


def _digest_of_source(read: Read) -> str:
    """Return the hash of the file that defines a function, or "" if it has none."""
    if PLUGIN in getattr(read, "__globals__", {}):
        return str(read.__globals__[PLUGIN])[:16]
    try:
        file = inspect.getsourcefile(read)
        return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()[:16]
    except (TypeError, OSError):  # no function of Python's own, or typed at a prompt
        return ""


def _named_path(request: DataRequest) -> list[str]:
    return [request.path] if os.path.exists(request.path) else []

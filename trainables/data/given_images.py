"""Images that a person names, files or folders of them, in the form of a data set's own."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.build import FEW_IMAGES
from trainables.data.file_errors import explained
from trainables.data.readers.decoding import BATCH, Decoders, Form, usable_cpus
from trainables.data.readers.image_folder import EXTENSIONS, image_files
from trainables.heartbeat import beat
from trainables.mistake import Mistake

CHUNK = 2**28
"""Bytes of decoded images that are held at a time."""


@dataclass(frozen=True)
class Chunk:
    """Some of the files: those that could be read, with their pixels, and the reasons for the others."""

    paths: tuple[str, ...]
    pixels: np.ndarray
    """uint8 (n, side, side, channels)."""
    unreadable: dict[str, str]


def image_paths(named: Sequence[str]) -> list[str]:
    """Return the files that are named and the image files in folders that are, each once, in this order.

    Raise Mistake for a name that leads nowhere, and for a folder without image files.
    """
    found: dict[str, None] = {}
    for path in named:
        with explained():
            if not os.path.isdir(path):
                if not os.path.exists(path):
                    raise Mistake(f"{path} does not exist: name files of images, or folders that hold some.")
                found[path] = None
                continue
            inside = image_files(Path(path))
        if not inside:
            raise Mistake(
                f"The folder {path} holds no image (files named {', '.join(sorted(EXTENSIONS))}): name "
                "another one, or files."
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def read_in_chunks(paths: Sequence[str], form: Form) -> Iterator[Chunk]:
    """Decode image files, as the images of a data set are, and yield them in chunks."""
    at_once = max(1, CHUNK // (form.side**2 * form.channels))
    worthwhile = len(paths) >= FEW_IMAGES and usable_cpus() > 1
    processes = min(usable_cpus(), math.ceil(len(paths) / BATCH)) if worthwhile else 0
    with Decoders(form, processes) as decoders:
        for start in range(0, len(paths), at_once):
            beat("reading images")
            yield _read(paths[start : start + at_once], decoders)


def _read(paths: Sequence[str], decoders: Decoders) -> Chunk:
    form = decoders.form
    pixels = np.empty((len(paths), form.side, form.side, form.channels), np.uint8)
    futures = decoders.submit(paths.__getitem__, np.arange(len(paths)), pixels, lambda _: None)
    failures = {failure.place: failure.reason for future in futures for failure in future.result()}
    read = [place for place in range(len(paths)) if place not in failures]
    unreadable = {paths[place]: reason for place, reason in failures.items()}
    return Chunk(tuple(paths[place] for place in read), pixels[read], unreadable)

"""Named sets of unlabelled images that are scored as anomalies beside a benchmark's test images.

A set is a folder of images at any depth, a tar archive of images (such as the ODIN repository's downloads),
or a Parquet file with an image column. How images are brought to the benchmark's size changes the statistics
that detectors see, so nothing is resized unless a method is given.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from trainables.data.file_errors import explained
from trainables.data.image_table import ImageTable
from trainables.data.named_images import CROP, NamedImages
from trainables.data.readers.image_folder import EXTENSIONS, image_files
from trainables.data.readers.parquet import SUFFIXES, image_chunks
from trainables.data.readers.pixels import Item, opened_image, resized, with_mode
from trainables.heartbeat import beat
from trainables.mistake import Mistake, one_line
from trainables.randomness import stream

UNCHANGED = "none"
"""The resize method of a set whose images all had the right size."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
}
GROWTH = 2**24
"""Bytes by which the memory for a set's images grows, so that it is never held twice."""

MOST_HELD = 4 * 2**30
"""Bytes that an archive may unpack to: its images are held in memory until they are in order."""
NOTES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
"""Types of entries in an archive that say more about others, such as a long name."""
MOST_OF_A_NOTE = 2**20
"""Bytes of one, which is read whole."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, uint8 (n, side, side, channels), and how they were brought to it.

    `resize` is "nearest", "box", "bilinear", "crop" or UNCHANGED.
    """

    name: str
    pixels: np.ndarray
    resize: str

    @property
    def digest(self) -> str:
        """SHA-256 of the shape and the pixels."""
        found = hashlib.sha256(repr(self.pixels.shape).encode())
        found.update(self.pixels.data)
        return found.hexdigest()

    @property
    def table(self) -> ImageTable:
        """The images as a table, for scoring and the access log; its split is named after the set."""
        return ImageTable.from_arrays(f"ood/{self.name}", {self.name: self.pixels})


def load_set(wanted: NamedImages, side: int, channels: int) -> ImageSet:
    """Return a set as `load_images` does; raise Mistake, too, if its images are not those it had before."""
    found = load_images(
        wanted.name,
        wanted.path,
        side=side,
        channels=channels,
        resize=wanted.resize,
        crops_per_image=wanted.crops_per_image,
        seed=wanted.seed,
    )
    if wanted.digest not in (None, found.digest):
        raise Mistake(
            f"The image set {wanted.name!r} has other images, or another resize, than when the sweep first "
            "scored it: give the set another name."
        )
    return found


def load_images(
    name: str,
    path: str,
    *,
    side: int,
    channels: int,
    resize: str | None = None,
    crops_per_image: int = 1,
    seed: int = 0,
) -> ImageSet:
    """Return all images at a path, in the order of their names or rows.

    "nearest", "box" and "bilinear" resize the shorter side to `side` with that filter of Pillow (box and
    bilinear average over the whole footprint of a pixel) and crop the centre. "crop" cuts `crops_per_image`
    squares at seeded random places of each unresized image. None requires that all images have the size
    already. Raise Mistake if there are no images, or one cannot be read or brought to the size.
    """
    random = stream(0, seed, 0, "crops of image sets")
    found, changed = _Pixels(side, channels), False
    for where, item in _items(Path(path).expanduser(), name):
        beat("reading an image set")
        image = _decoded(item, where, channels)
        sized = image.size == (side, side)
        changed |= not sized
        if not sized and resize is None:
            width, height = image.size
            raise Mistake(
                f"{where} of the image set {name} is {width}x{height} where {side}x{side} is needed: say how "
                f"with --ood-resize {', '.join(FILTERS)} or {CROP}, which changes the scores very much."
            )
        if resize == CROP:
            for crop in _crops(image, side, crops_per_image, random, f"{where} of the image set {name}"):
                found.append(crop)
        else:
            image = image if sized else _resized(image, side, str(resize), where)
            found.append(_pixels(image, channels))
    if not found.count:
        raise Mistake(f"{path} holds no image for the image set {name}: name a place that does, with --ood.")
    return ImageSet(name, found.taken(), (resize or UNCHANGED) if changed else UNCHANGED)


class _Pixels:
    """Images of one size, uint8 (count, side, side, channels), in memory that grows in place."""

    def __init__(self, side: int, channels: int) -> None:
        self.count = 0
        self._shape = (side, side, channels)
        self._memory = np.empty((0, *self._shape), np.uint8)

    def append(self, pixels: np.ndarray) -> None:
        """Add an image."""
        if self.count == len(self._memory):
            more = max(1, GROWTH // pixels.size)
            self._memory.resize((self.count + more, *self._shape), refcheck=False)
        self._memory[self.count] = pixels
        self.count += 1

    def taken(self) -> np.ndarray:
        """Return all images."""
        self._memory.resize((self.count, *self._shape), refcheck=False)
        return self._memory


def _items(path: Path, name: str) -> Iterator[tuple[str, Item]]:
    """Return the name of each image for messages, and the encoded image."""
    with explained():
        if path.is_dir():
            return ((file, file) for file in image_files(path))
        if not path.is_file():
            what = "is no file" if os.path.lexists(path) else "does not exist"
            raise Mistake(f"{path} {what}: --ood {name}=PATH names a folder, an archive or Parquet file.")
    if path.suffix.lower() in SUFFIXES:
        return _parquet_items(path)
    if _is_archive(path):
        return _archive_items(path)
    raise Mistake(
        f"{path} is not a set of images: --ood takes a folder of images, a tar archive of images, or a "
        "Parquet file with an image column."
    )


def _is_archive(path: Path) -> bool:
    with _reading_archive(path):
        try:
            tarfile.open(path, tarinfo=_Member).close()
        except tarfile.ReadError:
            return False
        return True


def _archive_items(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the images of a tar archive in order of their names, without hidden files.

    Nothing is unpacked to the disk, so where a member's name leads does not matter.
    """
    found = {}
    left = MOST_HELD
    with _reading_archive(path), tarfile.open(path, tarinfo=_Member) as archive:
        for member in archive:
            left -= member.size
            if left < 0:
                raise Mistake(
                    f"{path} unpacks to more than {MOST_HELD / 2**30:g} GiB: unpack it, and name the folder "
                    "of its images."
                )
            file = Path(member.name)
            if member.isfile() and file.suffix.lower() in EXTENSIONS and not file.name.startswith("."):
                data = archive.extractfile(member)
                found[member.name] = data.read() if data is not None else b""
    for name in sorted(found):
        yield f"{name} in {path}", found[name]


class _Member(tarfile.TarInfo):
    """A member of an archive, whose name and notes have a reasonable length: they are read whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """Return the member that a header describes."""
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.type in NOTES and found.size > MOST_OF_A_NOTE):
            raise ValueError(f"a member's notes claim {found.size:,} bytes")
        return found


@contextmanager
def _reading_archive(path: Path) -> Iterator[None]:
    """Raise Mistake for what tarfile and the libraries below it raise for what is no archive, or is cut."""
    try:
        yield
    except Mistake:
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise Mistake(
            f"{path} is not an archive that can be read ({one_line(error)}): fetch it again."
        ) from error


def _parquet_items(path: Path) -> Iterator[tuple[str, bytes]]:
    row = 0
    for column in image_chunks(path):
        for data in column:
            yield f"Row {row} of {path}", data.as_py() or b""
            row += 1


def _decoded(item: Item, where: str, channels: int) -> Image.Image:
    """Return the image upright, in grey or RGB; raise Mistake if it cannot be read."""
    try:
        with opened_image(item) as image:
            return with_mode(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for bad data
        raise Mistake(
            f"{where} is not an image that can be read ({one_line(error)}): replace it or take it out."
        ) from error


def _resized(image: Image.Image, side: int, resize: str, where: str) -> Image.Image:
    try:
        width, height = resized(image.size, side)
    except ValueError as error:
        raise Mistake(f"{where} cannot be resized ({error}): replace it or take it out.") from error
    image = image.resize((width, height), FILTERS[resize])
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _crops(
    image: Image.Image, side: int, count: int, random: torch.Generator, where: str
) -> list[np.ndarray]:
    """Return squares at uniform places of an image, with two draws each regardless of its size."""
    width, height = image.size
    if min(width, height) < side:
        raise Mistake(
            f"{where} is {width}x{height}, too small for crops of {side}x{side}: resize such images instead, "
            f"with --ood-resize {' or '.join(FILTERS)}."
        )
    if count > 1 and image.size == (side, side):
        raise Mistake(
            f"{where} is {side}x{side} already, so that {count} crops of it would be the same: leave "
            "--crops-per-image out."
        )
    pixels = _pixels(image, len(image.getbands()))
    draws = torch.rand((count, 2), dtype=torch.float64, generator=random).tolist()
    corners = [(int(y * (height - side + 1)), int(x * (width - side + 1))) for y, x in draws]
    return [pixels[top : top + side, left : left + side].copy() for top, left in corners]


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Return the pixels of an image, uint8 (H, W, channels)."""
    return np.asarray(image).reshape(image.height, image.width, channels)

"""Named sets of unlabelled images that are scored as anomalies beside a benchmark's test images.

A set is a folder of images at any depth, a tar archive of images (such as the ODIN repository's downloads),
or a Parquet file with an image column. How images are brought to the benchmark's size changes the statistics
that detectors see, so nothing is resized unless a method is given.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

from trainables.data.image_table import ImageTable
from trainables.data.named_images import CROP, NamedImages
from trainables.data.readers.image_folder import EXTENSIONS, image_files
from trainables.data.readers.parquet import SUFFIXES, image_column
from trainables.data.readers.pixels import Item, open_image, with_mode
from trainables.mistake import Mistake
from trainables.randomness import stream

UNCHANGED = "none"
"""The resize method of a set whose images all had the right size."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
}


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
    found, changed = [], False
    for where, item in _items(Path(path).expanduser(), name):
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
            found += _crops(image, side, crops_per_image, random, f"{where} of the image set {name}")
        else:
            found.append(_pixels(image if sized else _resized(image, side, str(resize)), channels))
    if not found:
        raise Mistake(f"{path} holds no image for the image set {name}: name a place that does, with --ood.")
    return ImageSet(name, np.stack(found), (resize or UNCHANGED) if changed else UNCHANGED)


def _items(path: Path, name: str) -> Iterator[tuple[str, Item]]:
    """Return the name of each image for messages, and the encoded image."""
    if path.is_dir():
        return ((file, file) for file in image_files(path))
    if not path.is_file():
        raise Mistake(f"{path} does not exist: --ood {name}=PATH names a folder, an archive or Parquet file.")
    if path.suffix.lower() in SUFFIXES:
        return _parquet_items(path)
    if tarfile.is_tarfile(path):
        return _archive_items(path)
    raise Mistake(
        f"{path} is not a set of images: --ood takes a folder of images, a tar archive of images, or a "
        "Parquet file with an image column."
    )


def _archive_items(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the images of a tar archive in order of their names, without hidden files."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = Path(member.name)
                if member.isfile() and file.suffix.lower() in EXTENSIONS and not file.name.startswith("."):
                    data = archive.extractfile(member)
                    found[member.name] = data.read() if data is not None else b""
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Mistake(f"{path} is not an archive that can be read ({error}): fetch it again.") from error
    for name in sorted(found):
        yield f"{name} in {path}", found[name]


def _parquet_items(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with pq.ParquetFile(path) as file:
            column = image_column(file.schema_arrow, path).leaf
            row = 0
            for batch in file.iter_batches(1024, columns=[column]):
                for value in batch.column(0).to_pylist():
                    data = value["bytes"] if isinstance(value, dict) else value
                    yield f"Row {row} of {path}", data or b""
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise Mistake(f"{path} is not a Parquet file that can be read ({error}): fetch it again.") from error


def _decoded(item: Item, where: str, channels: int) -> Image.Image:
    """Return the image upright, in grey or RGB; raise Mistake if it cannot be read."""
    try:
        image = ImageOps.exif_transpose(open_image(item))
        return with_mode(image, "L" if channels == 1 else "RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for bad data
        raise Mistake(
            f"{where} is not an image that can be read ({error}): replace it or take it out."
        ) from error


def _resized(image: Image.Image, side: int, resize: str) -> Image.Image:
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
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

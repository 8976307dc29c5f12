"""Conversion of an encoded image to square uint8 pixels of a given size.

Files are not trusted: a header is looked at before anything is decoded, and no other program is run. This
module imports only Pillow and numpy, so that decoding processes, which need nothing else, start quickly.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.data.readers.regular_file import open_file

Item = bytes | str | np.ndarray
"""A reader's image: encoded bytes, the path of an encoded file, or pixels, uint8 (H, W) or (H, W, 3)."""

ORIENTATION = 0x0112
"""The EXIF tag with the orientation of the camera."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF", "AVIF", "JPEG2000")
"""What an image may be, whatever its file is called.

Of Pillow's other formats, EPS would be handed to another program, and those without a signature take noise
for an image.
"""

MOST_PIXELS = 89_478_485
"""Most pixels of an image, decoded or resized: 256 MiB of RGB, the size above which Pillow itself warns.

Decoding takes up to 16 bytes a pixel for a moment, in every decoding process at once. No camera's file of up
to 89 megapixels is refused.
"""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below, in a sentence


def square_pixels(item: Item, side: int, channels: int, *, oriented: bool) -> np.ndarray:
    """Return the image as uint8 (side, side, channels); raise what Pillow raises for a bad one.

    If it has another size, its shorter side is resized to `side` (bilinear over the whole footprint of a
    pixel, as Pillow does) and the centre is cropped.
    """
    if isinstance(item, np.ndarray) and item.shape[:2] == (side, side):
        pixels = item if item.ndim == 3 else item[:, :, None]
        if pixels.shape[2] == channels:
            return pixels
    with opened_image(item) as image:
        if oriented and image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = centred(with_mode(image, "L" if channels == 1 else "RGB"), side)
    return np.asarray(image).reshape(side, side, channels)


@contextmanager
def opened_image(item: Item) -> Iterator[Image.Image]:
    """Give an item's image, or the first frame of an animation, whose file is open until the context ends.

    Raise ValueError for what is no image, or a larger one than MOST_PIXELS; nothing is decoded yet.
    """
    if isinstance(item, np.ndarray):
        yield Image.fromarray(item)
        return
    with open_file(item) if isinstance(item, str) else io.BytesIO(item) as file:
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            empty = file.seek(0, io.SEEK_END) == 0
            raise ValueError("it is empty" if empty else f"it is none of {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:  # of more than twice as many
            raise ValueError(f"it has more than {MOST_PIXELS:,} pixels, the most that are decoded") from None
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"it has {width}x{height} pixels, more than the {MOST_PIXELS:,} that are decoded at most"
            )
        yield image


def with_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in mode "RGB" or "L", with transparency laid on white and 16 bits scaled to 8.

    Raise ValueError for floating-point pixels and for numbers outside 0..65535.
    """
    if image.mode == mode and "transparency" not in image.info:
        image.load()
        return image
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear)
    return image.convert(mode)


def centred(image: Image.Image, side: int) -> Image.Image:
    """Return the central square of the image, after resizing its shorter side to `side`."""
    if min(image.size) != side:
        image = image.resize(resized(image.size, side), Image.Resampling.BILINEAR)
    if image.size != (side, side):
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    return image


def resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the size that an image has once its shorter side is `side`.

    Raise ValueError if it would have more than MOST_PIXELS, as that of a very long one.
    """
    scale = side / min(size)
    width, height = (max(side, round(length * scale)) for length in size)
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"it is {size[0]}x{size[1]}, too long: with its shorter side at {side} it would have more than "
            f"{MOST_PIXELS:,} pixels"
        )
    return width, height


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no agreed range")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels are numbers outside 0..65535")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))

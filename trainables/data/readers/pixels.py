"""Conversion of an encoded image to square uint8 pixels of a given size.

This module imports only Pillow and numpy, so that decoding processes, which need nothing else, start quickly.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

Item = bytes | str | np.ndarray
"""A reader's image: encoded bytes, the path of an encoded file, or pixels, uint8 (H, W) or (H, W, 3)."""

ORIENTATION = 0x0112
"""The EXIF tag with the orientation of the camera."""


def square_pixels(item: Item, side: int, channels: int, *, oriented: bool) -> np.ndarray:
    """Return the image as uint8 (side, side, channels); raise what Pillow raises for a bad one.

    If it has another size, its shorter side is resized to `side` (bilinear over the whole footprint of a
    pixel, as Pillow does) and the centre is cropped.
    """
    if isinstance(item, np.ndarray) and item.shape[:2] == (side, side):
        pixels = item if item.ndim == 3 else item[:, :, None]
        if pixels.shape[2] == channels:
            return pixels
    image = open_image(item)
    if oriented and image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    image = centred(with_mode(image, "L" if channels == 1 else "RGB"), side)
    return np.asarray(image).reshape(side, side, channels)


def open_image(item: Item) -> Image.Image:
    """Return an item's image, or the first frame of an animation."""
    if isinstance(item, np.ndarray):
        return Image.fromarray(item)
    return Image.open(item if isinstance(item, str) else io.BytesIO(item))


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
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if image.size != (side, side):
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no agreed range")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels are numbers outside 0..65535")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))

"""A contact sheet: the images in the order of their scores, with those that are flagged marked."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.data.readers.decoding import Form, decode
from trainables.mistake import escaped

SIDE, MARGIN, LINE = 112, 10, 15
"""Pixels of an image's side, between images, and of a line of text."""
COLUMNS, LINES, MOST = 10, 3, 400
"""Images in a row, lines of text below each, and images in all."""
BACKGROUND, INK, MARK, PLAIN = "white", "#222222", "#c62828", "#d8d8d8"
BORDER = 4


@dataclass(frozen=True)
class Entry:
    """An image's file, the class that it is taken for, its score, and whether it is flagged."""

    file: str
    predicted: str
    score: float
    flagged: bool


def contact_sheet(entries: Sequence[Entry], title: Sequence[str], *, oriented: bool) -> bytes:
    """Return a PNG of at most MOST images, those with the highest scores, from the highest on.

    `title` has lines of text above them. Images are shown as squares of the part that the network sees.
    """
    ranked = sorted(entries, key=lambda entry: -entry.score)
    shown = ranked[:MOST]
    font = ImageFont.load_default(12)
    cell_width, cell_height = SIDE + MARGIN, SIDE + LINES * LINE + MARGIN
    width = MARGIN + COLUMNS * cell_width
    across = int((width - 2 * MARGIN) / font.getlength("n"))
    lines = [line for text in (*title, _about(entries, shown)) for line in wrap(escaped(text), across)]
    top = MARGIN + LINE * (len(lines) + 1)
    rows = math.ceil(len(shown) / COLUMNS)
    sheet = Image.new("RGB", (width, top + rows * cell_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + number * LINE), line, INK, font)
    for place, entry in enumerate(shown):
        left, upper = MARGIN + place % COLUMNS * cell_width, top + place // COLUMNS * cell_height
        _draw(sheet, draw, entry, (left, upper), font, oriented=oriented)
    found = io.BytesIO()
    sheet.save(found, "PNG")
    return found.getvalue()


def _about(entries: Sequence[Entry], shown: Sequence[Entry]) -> str:
    flagged = sum(entry.flagged for entry in entries)
    which = (
        f"the {len(shown)} highest of {len(entries)} scores" if len(shown) < len(entries) else "all images"
    )
    return f"Red: flagged ({flagged} of {len(entries)}). Shown: {which}, from the highest on."


def _draw(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    entry: Entry,
    place: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *,
    oriented: bool,
) -> None:
    """Draw an image with a frame, and below it its file, the class that it is taken for, and its score."""
    left, top = place
    colour = MARK if entry.flagged else PLAIN
    draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), colour)
    inner = SIDE - 2 * BORDER
    pixels = np.full((1, inner, inner, 3), 255, np.uint8)
    decode([entry.file], Form(inner, 3, oriented), pixels)  # a file that has gone since stays white
    sheet.paste(Image.fromarray(pixels[0]), (left + BORDER, top + BORDER))
    ink = MARK if entry.flagged else INK
    score = f"{entry.score:.4g}" + (" flagged" if entry.flagged else "")
    for number, text in enumerate((os.path.basename(entry.file), entry.predicted, score)):
        draw.text((left, top + SIDE + 1 + number * LINE), _fitting(escaped(text), font), ink, font)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return as much of a text as fits below an image."""
    if font.getlength(text) <= SIDE:
        return text
    while text and font.getlength(f"{text}...") > SIDE:
        text = text[:-1]
    return f"{text}..."

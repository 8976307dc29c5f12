"""The held-out images that a method finds most and least anomalous, with their pixels if those are there."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.reporting.results import Results
from orchestrator.reporting.scored import Scored, Scores, label_of
from orchestrator.reporting.taken_for import kept_classes
from trainables.data import image_file
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake

EACH = 6
"""Images shown of each kind."""
CLASSES = 20
"""Most held-out classes that are shown, so that a page stays small."""
LARGEST = 96
"""Largest side in pixels of a picture."""


@dataclass(frozen=True)
class Picture:
    """An image: its place or file, what it is taken for, and its pixels as an address of data."""

    name: str
    holdout: str
    score: float
    answer: str
    """What the network takes it for, and how surely; empty for a method that trains nothing."""
    source: str
    """Empty if the prepared images are not at hand."""

    @property
    def words(self) -> str:
        """The picture in words, for its caption and for who does not see it."""
        return f"{self.name}, {self.answer}" if self.answer else f"{self.name}, score {self.score:.3f}"


@dataclass(frozen=True)
class Gallery:
    """Pictures under a title."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Galleries:
    """What is shown of one method's scores, by its first seed."""

    about: str
    shown: tuple[Gallery, ...]


def galleries(results: Results, scores: Scores, method: str, cache: str) -> Galleries | None:
    """Return a method's most and least anomalous images of each held-out class, and those most surely missed.

    `cache` is the folder of prepared data, empty for the user's own. None without scores.
    """
    shown = [name for name in results.held_out if (method, name) in scores][:CLASSES]
    if not shown:
        return None
    found: list[Gallery] = []
    missed: list[Picture] = []
    pixels = _Pixels(results, cache)
    for holdout in shown:
        scored = scores[method, holdout][0]
        rows = np.flatnonzero(scored.is_anomaly)
        ranked = rows[np.argsort(scored.scores[rows], kind="stable")]
        each = min(EACH, (len(ranked) + 1) // 2)
        least, most = ranked[:each], ranked[::-1][:each]
        found.append(Gallery(f"{holdout}: most anomalous", _pictures(results, scored, most, pixels)))
        found.append(Gallery(f"{holdout}: least anomalous", _pictures(results, scored, least, pixels)))
        missed += _pictures(results, scored, least, pixels)
    surest = tuple(sorted(missed, key=lambda picture: picture.score)[:EACH])
    if len(shown) > 1:
        found.append(Gallery("Most confidently missed, of all held-out classes", surest))
    seed = scores[method, shown[0]][0].cell.seed
    about = f"By {label_of(results, method)} with seed {seed}."
    if not pixels.there:
        about += " The prepared images are not on this machine, so their places in the test split are given."
    return Galleries(about, tuple(found))


def _pictures(
    results: Results, scored: Scored, rows: Sequence[int] | np.ndarray, pixels: _Pixels
) -> tuple[Picture, ...]:
    return tuple(_picture(results, scored, int(row), pixels) for row in rows)


def _picture(results: Results, scored: Scored, row: int, pixels: _Pixels) -> Picture:
    index, holdout = int(scored.index[row]), scored.cell.holdout
    name = scored.files[row] if scored.files and scored.files[row] else f"test image {index}"
    answer = ""
    if scored.answers is not None:
        taken = kept_classes(results, holdout)[int(scored.answers.classes[row])]
        answer = f"taken for {taken} ({100 * scored.answers.confidence[row]:.0f}%)"
    return Picture(name, holdout, float(scored.scores[row]), answer, pixels.source(holdout, index))


class _Pixels:
    """The prepared test images of a sweep, if they are on this machine."""

    def __init__(self, results: Results, cache: str) -> None:
        self._fingerprint = results.stored.fingerprint
        self._path = self._find(cache)
        self._opened: dict[str, tuple[np.ndarray, dict[int, int]]] = {}

    @property
    def there(self) -> bool:
        """Whether any image was found."""
        return self._path is not None

    def source(self, holdout: str, index: int) -> str:
        """Return an image of a class as an address of data, empty if it is not there."""
        if self._path is None:
            return ""
        if holdout not in self._opened:
            self._opened[holdout] = self._open(holdout)
        pixels, places = self._opened[holdout]
        return _address(pixels[places[index]]) if index in places else ""

    def _find(self, cache: str) -> str | None:
        """Return the file of test images whose folder has the sweep's fingerprint."""
        try:
            folders = sorted(_cache_folder(cache).glob(f"*-{self._fingerprint[:16]}"))
            for folder in folders:
                manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
                if manifest["fingerprint"] == self._fingerprint == image_file.fingerprint(manifest):
                    return str(folder / "test.arrow")
        except (*image_file.UNSOUND, Mistake):
            return None
        return None

    def _open(self, holdout: str) -> tuple[np.ndarray, dict[int, int]]:
        try:
            assert self._path is not None
            (opened,) = image_file.open_classes(self._path, "test", [holdout])
        except (image_file.DamagedError, *image_file.UNSOUND):
            return np.empty(0, np.uint8), {}
        return opened.pixels, {int(index): place for place, index in enumerate(opened.indices)}


def _cache_folder(cache: str) -> Path:
    return DataRequest(reader="", path="", side=0, channels=0, cache=cache).cache_folder


def _address(pixels: np.ndarray) -> str:
    """Return an image, uint8 (H, W, C), as the address of a PNG file's data, a large one made smaller."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((LARGEST, LARGEST))
    sink = io.BytesIO()
    image.save(sink, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"

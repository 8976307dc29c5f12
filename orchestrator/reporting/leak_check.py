"""The check that no search cell ever opened a test image or its held-out class.

Before it trains, every cell writes its access log, the images that it opened, into its cell.json. A search
cell may open training images of the kept classes only; a final cell also the test images and image sets, to
score them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from orchestrator.planning.cells import SEARCH, Cell
from orchestrator.reporting.tables import NUMBER, TEXT, Column, Table
from trainables.run import NO_HOLDOUT

IMAGE_SETS = "ood/"
"""What the splits of image sets begin with."""
SHOWN = 16
NAMED = 5
"""Most breaches that the verdict lists; it counts the others."""


@dataclass(frozen=True)
class Breach:
    """Something that a cell opened and must not have opened, or the lack of its access log.

    A detector that scores a cell later opens images for it, and has a log of its own.
    """

    cell: Cell
    description: str


@dataclass(frozen=True)
class Verdict:
    """The result of the check over a sweep's cells."""

    searches: int
    """Number of search cells whose access log was read."""
    searches_hold_out: bool
    """Whether any of them holds out a class."""
    finals: int
    """Number of final cells whose access log was read."""
    finals_hold_out: int
    """Number of these that hold out a class."""
    breaches: tuple[Breach, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing forbidden was opened and no access log is missing."""
        return not self.breaches

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.breaches:
            named = "; ".join(f"{breach.cell.label} {breach.description}" for breach in self.breaches[:NAMED])
            more = f"; and {len(self.breaches) - NAMED} more" if len(self.breaches) > NAMED else ""
            return f"LEAK FIREWALL BROKEN, the results do not count: {named}{more}."
        if not self.searches and not self.finals:
            return "Leak firewall: no cell has opened anything yet."
        parts = ["no search cell ran"]
        if self.searches:
            what = "a test image or its held-out class" if self.searches_hold_out else "a test image"
            parts = [_none(self.searches, "search", "opened", "open") + f" {what}"]
        if self.finals_hold_out:
            trained = _none(self.finals_hold_out, "final", "trained", "train")
            parts.append(f"{trained} on its held-out class")
        return f"Leak firewall: holds; {', and '.join(parts)}."


def _none(count: int, phase: str, past: str, verb: str) -> str:
    """Return that no cell did something, of which the verb is given in its past tense and as it is."""
    return (
        f"the one {phase} cell did not {verb}" if count == 1 else f"none of the {count} {phase} cells {past}"
    )


def opened_table(
    cells: Iterable[Cell], cell_files: Mapping[str, Mapping[str, Any]], label: str
) -> Table | None:
    """Return what the cells opened, by its digest, and how many of them; None if no log can be read."""
    counts: dict[tuple[str, str, str, str, str], int] = {}
    for cell in cells:
        entries = (cell_files.get(cell.key) or {}).get("opened")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                about = [str(entry.get(name, "?")) for name in ("split", "count", "digest")]
                place = (cell.phase, cell.holdout, about[0], about[1], about[2][:SHOWN])
                counts[place] = counts.get(place, 0) + 1
    if not counts:
        return None
    titles = ("phase", "held out", "opened", "images", "digest")
    kinds = (TEXT, TEXT, TEXT, NUMBER, TEXT)
    columns = [Column(title, kind, title) for title, kind in zip(titles, kinds, strict=True)]
    rows = tuple((*place, f"{number}") for place, number in counts.items())
    caption = f"What cells opened, the first {SHOWN} characters of its SHA-256, and how many cells did."
    return Table((*columns, Column("cells", NUMBER, "cells")), rows, caption, label)


def check_leaks(
    cells: Iterable[Cell],
    cell_files: Mapping[str, Mapping[str, Any]],
    done: Collection[str],
    later: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({}),
) -> Verdict:
    """Check the access logs of all cells, given the contents of cell.json by key and the keys that are done.

    `later` has the records of detectors that scored final cells later, by key and name: each has a log of
    its own, which may be empty, and may open what its cell may.

    A cell that has begun or is done must have an access log that can be read. Without one, nothing is known
    of what it opened, which counts as a breach.
    """
    breaches: list[Breach] = []
    searches: list[Cell] = []
    finals: list[Cell] = []
    for cell in cells:
        about = cell_files.get(cell.key) or {}
        if not about and cell.key not in done:
            continue
        opened = _opened(about)
        if not opened:
            breaches.append(Breach(cell, "has no readable log of what it opened"))
            continue
        (searches if cell.phase == SEARCH else finals).append(cell)
        breaches += [Breach(cell, description) for description in _forbidden(cell, opened)]
        for name, record in later.get(cell.key, {}).items():
            breaches += _breaches_of_detector(cell, name, record)
    hold_out = [sum(cell.holdout != NO_HOLDOUT for cell in found) for found in (searches, finals)]
    return Verdict(len(searches), hold_out[0] > 0, len(finals), hold_out[1], tuple(breaches))


def _breaches_of_detector(cell: Cell, name: str, record: Mapping[str, Any]) -> list[Breach]:
    opened = _opened(record)
    if opened is None:
        return [Breach(cell, f"has no readable log of what its detector {name} opened")]
    return [Breach(cell, f"scored by {name} {description}") for description in _forbidden(cell, opened)]


def _opened(about: Mapping[str, Any]) -> list[tuple[str, list[str]]] | None:
    """Return the splits that a cell opened, each with its classes; None if the log is malformed."""
    try:
        found = [(entry["split"], entry["classes"]) for entry in about["opened"]]
    except (KeyError, TypeError):
        return None
    well_formed = all(isinstance(split, str) and isinstance(classes, list) for split, classes in found)
    return found if well_formed else None


def _forbidden(cell: Cell, opened: list[tuple[str, list[str]]]) -> list[str]:
    """Return descriptions of what a cell opened and must not have opened."""
    search = cell.phase == SEARCH
    allowed = ("train",) if search else ("train", "test")
    beside = () if search else (IMAGE_SETS,)
    found = [
        f"opened the split {split!r}"
        for split, _ in opened
        if not (split in allowed or split.startswith(beside))
    ]
    without_holdout = [classes for split, classes in opened if search or split == "train"]
    if any(cell.holdout in classes for classes in without_holdout):
        found.append(f"opened its held-out class {cell.holdout!r}")
    return found

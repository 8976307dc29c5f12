"""The check that no search cell ever opened a test image or its held-out class.

Every cell writes into its cell.json what it opened before it trains. A search cell may have opened
training images of the kept classes; a final cell those and, to score them, the test images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.cells import SEARCH, Cell

NAMED = 5
"""Breaches that the verdict spells out; it counts the others."""


@dataclass(frozen=True)
class Breach:
    """Something that a cell opened and must not have, or the lack of an account."""

    cell: Cell
    what: str


@dataclass(frozen=True)
class Verdict:
    """What the accounts of a sweep's cells say of the firewall."""

    checked: int
    """Search cells with an account that was read."""
    finals: int
    """Final cells with an account that was read."""
    breaches: tuple[Breach, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing forbidden was opened and every account that must be there is."""
        return not self.breaches

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.breaches:
            named = "; ".join(f"{breach.cell.label} {breach.what}" for breach in self.breaches[:NAMED])
            more = f"; and {len(self.breaches) - NAMED} more" if len(self.breaches) > NAMED else ""
            return f"LEAK FIREWALL BROKEN, the results do not count: {named}{more}."
        if not self.checked and not self.finals:
            return "Leak firewall: no cell has opened anything yet."
        trained = f"none of the {self.finals} final cells trained on its held-out class"
        if not self.checked:
            return f"Leak firewall: holds; no search cell ran, and {trained}."
        return (
            f"Leak firewall: holds; none of the {self.checked} search cells opened a test image or its "
            f"held-out class, and {trained}."
        )


def check_firewall(
    cells: Iterable[Cell], accounts: Mapping[str, Mapping[str, Any]], done: Collection[str]
) -> Verdict:
    """Checks the accounts (contents of cell.json by key) of all cells.

    A cell that has begun, or whose key is among `done`, must have an account that can be read; without
    one nothing can be said of it, which counts as a breach.
    """
    breaches: list[Breach] = []
    read = {True: 0, False: 0}
    for cell in cells:
        account = accounts.get(cell.key) or {}
        if not account and cell.key not in done:
            continue
        opened = _opened(account)
        if opened is None:
            breaches.append(Breach(cell, "has no readable account of what it opened"))
            continue
        read[cell.phase == SEARCH] += 1
        breaches += [Breach(cell, what) for what in _forbidden(cell, opened)]
    return Verdict(read[True], read[False], tuple(breaches))


def _opened(account: Mapping[str, Any]) -> list[tuple[str, list[str]]] | None:
    """Splits and classes that a cell opened; None where the account is empty or not in order."""
    try:
        found = [(entry["split"], entry["classes"]) for entry in account["opened"]]
    except (KeyError, TypeError):
        return None
    in_order = all(isinstance(split, str) and isinstance(classes, list) for split, classes in found)
    return found if found and in_order else None


def _forbidden(cell: Cell, opened: list[tuple[str, list[str]]]) -> list[str]:
    search = cell.phase == SEARCH
    allowed = ("train",) if search else ("train", "test")
    found = [f"opened the split {split!r}" for split, _ in opened if split not in allowed]
    watched = [classes for split, classes in opened if search or split == "train"]
    if any(cell.holdout in classes for classes in watched):
        found.append(f"opened its held-out class {cell.holdout!r}")
    return found

"""What is wrong with files of a ledger; of version 0.1's, which state no digest, by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import shapes
from orchestrator.ledger.digest import Unsound, unseal
from orchestrator.ledger.shapes import check

Json = dict[str, Any]


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written."""

    path: str
    """Within the sweep's folder, such as cells/<key>/result.json."""
    problem: str
    """The end of a sentence that the path begins."""
    key: str | None = None
    """The cell that it makes unfinished; None for files that no cell needs."""

    @property
    def sentence(self) -> str:
        """What is wrong, without the full stop."""
        return f"{self.path} {self.problem}"


def read_sweep(data: bytes) -> Json:
    """Return the content of sweep.json, whose parts the specification checks; raise Unsound."""
    return unseal(data)[0]


def read_cell(data: bytes, key: str) -> Json:
    """Return the content of a cell's cell.json; raise Unsound."""
    values, sealed = unseal(data)
    check(values, shapes.CELL, lacking=sealed)
    cell = values.get("cell")
    _check_key(cell.get("key", key) if isinstance(cell, dict) else key, key)
    return values


def read_result(data: bytes, key: str) -> Json:
    """Return a cell's result; raise Unsound."""
    values, sealed = unseal(data)
    check(values, {"checksums": dict, "attempt": dict}, lacking=False)
    check(values["attempt"], {"checksums": dict}, lacking=False)
    check(values, shapes.RESULT, lacking=sealed)
    of_phase = shapes.OF_A_SEARCH if values.get("phase") == "search" else shapes.OF_A_FINAL
    check(values.get("values", {}), of_phase, lacking=sealed)
    _check_key(values.get("key"), key)
    return values


def read_rung(data: bytes) -> Json:
    """Return a cell's record of a rung that it has reached; raise Unsound."""
    values, sealed = unseal(data)
    if not sealed:
        raise Unsound("has no digest")
    check(values, shapes.RUNG, lacking=False)
    return values


def read_later(data: bytes, *, detector: bool) -> Json:
    """Return the record of a detector, or an image set, that came later; raise Unsound."""
    values, sealed = unseal(data)
    check(values, {"checksum": str}, lacking=False)
    check(values, {**shapes.LATER, **(shapes.OF_A_DETECTOR if detector else {})}, lacking=sealed)
    return values


def _check_key(found: object, key: str) -> None:
    if found != key:
        raise Unsound(f"is of another cell, {found}")

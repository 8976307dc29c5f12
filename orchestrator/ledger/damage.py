"""What is wrong with files of a ledger; of version 0.1's, which state no digest, by what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.digest import Unsound, unseal

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
    if not sealed:
        _check_types(values, {"attempts": int})
    cell = values.get("cell")
    _check_key(cell.get("key", key) if isinstance(cell, dict) else key, key)
    return values


def read_result(data: bytes, key: str) -> Json:
    """Return a cell's result; raise Unsound."""
    values, sealed = unseal(data)
    if not sealed:
        wanted = {"values": dict, "aux_weights": dict, "phase": str, "checksums": dict, "attempt": dict}
        _check_types(values, wanted)
        if not all(
            _is_number(value) for value in [*values["values"].values(), *values["aux_weights"].values()]
        ):
            raise Unsound("has a value that is no number")
    _check_types(values, {"checksums": dict, "attempt": dict})
    _check_types(values["attempt"], {"checksums": dict})
    _check_key(values.get("key"), key)
    return values


def read_later(data: bytes) -> Json:
    """Return the record of a detector or image set that came later; raise Unsound."""
    values, _ = unseal(data)
    _check_types(values, {"checksum": str})
    return values


def _check_types(values: Mapping[str, Any], wanted: Mapping[str, type]) -> None:
    for name, kind in wanted.items():
        if name not in values:
            raise Unsound(f"has no {name!r}")
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise Unsound(f"has something else than was written as {name!r}")


def _check_key(found: object, key: str) -> None:
    if found != key:
        raise Unsound(f"is of another cell, {found}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)

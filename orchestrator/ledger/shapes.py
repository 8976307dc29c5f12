"""What the JSON files of a cell hold, as far as anybody reads it: a digest says nothing of who wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.ledger.digest import Unsound

LARGEST = 2**53
"""Whole numbers of a ledger are below it, so that floats hold them."""

Kind = Any
"""A type, a list with the kind of its members, a shape of an object, or a function that says whether."""


def check(values: Mapping[str, Any], shape: Mapping[str, Kind], *, lacking: bool = True) -> None:
    """Raise Unsound if values hold something else than a shape says, or lack one of its names.

    A name that ends with ? may be missing, and with `lacking` any may.
    """
    for asked, kind in shape.items():
        name = asked.removesuffix("?")
        if name not in values and name == asked and not lacking:
            raise Unsound(f"has no {name!r}")
        if name in values and not _fits(values[name], kind):
            raise Unsound(f"has something else than was written as {name!r}")


def _fits(value: object, kind: Kind) -> bool:
    if isinstance(kind, type):
        return isinstance(value, kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(each, kind[0]) for each in value)
    if isinstance(kind, Mapping):
        if isinstance(value, dict):
            check(value, kind)
        return isinstance(value, dict)
    return bool(kind(value))


def number(value: object) -> bool:
    """Return whether a value is a number, NaN and infinities included; true and false count as 1 and 0."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)


def moment(value: object) -> bool:
    """Return whether a value is a time, or a span of time, in seconds."""
    return number(value) and 0 <= value < LARGEST and not isinstance(value, bool)  # type: ignore[operator]


def count(value: object) -> bool:
    """Return whether a value is a whole number of at least 0."""
    return type(value) is int and 0 <= value < LARGEST


def each(kind: Kind) -> Callable[[object], bool]:
    """Return the kind of objects that have values of one kind under any names."""
    return lambda value: isinstance(value, dict) and all(_fits(inner, kind) for inner in value.values())


def optional(kind: Kind) -> Callable[[object], bool]:
    """Return the kind that may be null as well."""
    return lambda value: value is None or _fits(value, kind)


def _finite(value: object) -> bool:
    return number(value) and math.isfinite(value)  # type: ignore[arg-type]


def searched(value: object) -> bool:
    """Return whether a value can be that of a searched field: a finite number, a word, true or false."""
    return isinstance(value, str | bool) or _finite(value)


def _by_epoch(value: object) -> bool:
    return isinstance(value, dict) and all(
        re.fullmatch("[1-9][0-9]{0,8}", epoch) and _finite(each) for epoch, each in value.items()
    )


def are_curves(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether rows are of epochs, with numbers or nothing in every place."""
    return all(
        all(number(value) or value is None for value in row.values())
        and count(row.get("epoch"))
        and moment(row.get("speed/finished_at", 0))
        for row in rows
    )


CELL = {
    "attempts": count,
    "run?": {"aux_weights?": each(number)},
    "image_sets?": [{"name": str, "digest?": optional(str)}],
}

_ATTEMPT = {"finished_at": moment, "seconds": moment}

RESULT = {
    "phase": str,
    "aux_weights": each(_finite),
    "values": each(number),
    "checksums": each(str),
    "attempt": {**_ATTEMPT, "checksums": each(str), "number?": count, "resumed_after_epoch?": count},
    "detectors?": each(optional(str)),
    "weights?": optional({"sha256": str}),
    "fields?": each(searched),
    "rungs?": _by_epoch,
    "stopped_at?": count,
}
RUNG = {"epoch": count, "value": _finite}
OF_A_SEARCH = {"value": _finite, "diverged": bool}
OF_A_FINAL = {"epochs": count}

LATER = {"checksum": str, "metrics": each(number), "attempt": _ATTEMPT, "of?": str}
OF_A_DETECTOR = {"windowed": bool, "label": str, "source": str, "by_epoch": each(number)}

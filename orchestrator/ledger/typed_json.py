"""JSON values read as the types that belong in their places: other versions and people write files, too."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

LONGEST = 60
"""Characters of a wrong value that are shown."""


class Unexpected(ValueError):
    """A value that does not belong in its place; the message names the place, the value and what belongs."""

    def __init__(self, place: str, value: Any, belongs: str) -> None:
        """Say what is wrong; `belongs` is a noun such as "a whole number"."""
        super().__init__(f"{place or 'the file'} is {shown(value)}, where {belongs} belongs")


def shown(value: Any) -> str:
    """Return a value as JSON, cut if it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:  # a whole number too long for Python to write
        text = "a very large number"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def typed(kind: Any, value: Any, place: str) -> Any:
    """Return a JSON value as a type, at every depth; raise Unexpected for any other.

    A type is str, int, float, bool, None, a union, a tuple or list of one type, a dictionary with text keys,
    or a data class. Whole numbers count as numbers; NaN and infinities do not.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return kind(**typed_fields(kind, value, place))  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _typed_union(arguments, value, place)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return origin(typed(arguments[0], each, f"{place}[{i}]") for i, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: typed(arguments[1], each, _within(place, name)) for name, each in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if (isinstance(value, int) and abs(value) > 2**53) or not math.isfinite(value):
            raise Unexpected(place, value, _noun(kind))
        return float(value)
    if origin is not None or kind is float or type(value) is not kind:
        raise Unexpected(place, value, _noun(kind))
    return value


def typed_fields(
    cls: Any, value: Any, place: str, instead: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the fields of a data class that a JSON object holds; those that it lacks must have a default.

    `instead` has other types for fields that JSON holds in another form. Raise Unexpected for anything else.
    """
    if not isinstance(value, dict):
        raise Unexpected(place, value, "an object")
    kinds = {**_hints(cls), **(instead or {})}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in value:
        if name not in fields:
            raise Unexpected(_within(place, name), value[name], "nothing that this version knows")
    for name, field in fields.items():
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if name not in value and not has_default:
            raise Unexpected(_within(place, name), None, _noun(kinds[name]))
    return {name: typed(kinds[name], each, _within(place, name)) for name, each in value.items()}


def _typed_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """Return a value as one of several types; what is wrong within the only one of its shape is named."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1 and isinstance(value, dict | list | tuple):
        return typed(others[0], value, place)
    for kind in others:
        try:
            return typed(kind, value, place)
        except Unexpected:
            continue
    raise Unexpected(place, value, " or ".join(map(_noun, kinds)))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the types of a data class's fields, which take milliseconds to find."""
    return get_type_hints(cls)


def _within(place: str, name: str) -> str:
    """Return the place of a field."""
    return f"{place}.{name}" if place else name


def _noun(kind: Any) -> str:
    """Return what a type is called."""
    names = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
    if kind in names:
        return names[kind]
    if kind is type(None):
        return "null"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_noun, get_args(kind)))
    return "a list" if get_origin(kind) in (tuple, list) else "an object"

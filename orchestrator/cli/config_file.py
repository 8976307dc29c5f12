"""A sweep's command line as a TOML file: what --config reads, --write-config prints and the ledger keeps."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.ledger.passwords import HINT, MASK, masked
from orchestrator.planning.request import Request
from trainables.mistake import Mistake, one_line, unknown
from trainables.settings import split_assignments

KEYS = {"plugins": "plugin", "assignments": "set"}
"""Keys that are not called like their field of the request."""
TABLES = {"assignments": "set", "search": "search"}
"""Fields of words NAME=VALUE, which are tables of the file."""
OF_A_COMMAND = ("help", "config", "write_config")
"""Options that a file cannot have."""
HEAD = "# A sweep, which `python -m orchestrator.sweep --config FILE.toml` runs.\n"


def read_config(path: str, options: Iterable[argparse.Action]) -> dict[str, Any]:
    """Return a file's options by field of the request, in words as the command line has them.

    Raise Mistake for what is no TOML, for a key that is no option, and for a value of another type.
    """
    known = {_key(action): action for action in options if action.dest not in OF_A_COMMAND}
    words = {}
    for written, value in _parsed(path).items():
        key = written.replace("_", "-")
        if key not in known:
            raise Mistake(f"--config {path}: {unknown('option', written, known)}")
        if known[key].dest in words:
            raise Mistake(f"--config {path} has {key} twice, with - and with _: keep one.")
        found = _words(value, known[key])
        if found is None:
            shown, belongs = json.dumps(value, default=str), _belongs(known[key])
            raise Mistake(f"--config {path}: {written} is {shown}, where {belongs} belongs.")
        if found is not False:  # a switch that is off
            words[known[key].dest] = found
    return words


def _parsed(path: str) -> dict[str, Any]:
    """Return a file's content; raise Mistake, with the line, if it cannot be read or is no TOML."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else one_line(error)
        raise Mistake(f"--config {path} cannot be read as TOML: {why}.") from None


def _key(action: argparse.Action) -> str:
    """Return the key of an option: its long name, or the name of an argument."""
    longest = max(action.option_strings, key=len, default=action.dest)
    return longest.removeprefix("--")


def _belongs(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "true or false"
    if action.dest in TABLES:
        return "a table of names and values"
    if action.nargs == argparse.ONE_OR_MORE:
        return "a list of words or numbers, not empty,"
    return f"one of {', '.join(action.choices)}" if action.choices else "a word or number"


def _words(value: Any, action: argparse.Action) -> list[str] | str | bool | None:
    """Return an option's words from its value in a file; None if it is of another type."""
    if action.nargs == 0:
        return value if isinstance(value, bool) else None
    if action.dest in TABLES:
        return _assignments(value) if isinstance(value, dict) else None
    if action.nargs == argparse.ONE_OR_MORE:
        return _texts(value) if isinstance(value, list) else None
    text = _text(value)
    return None if action.choices and text not in action.choices else text


def _text(value: Any) -> str | None:
    """Return a word or number as it is typed; None for anything else, and for an empty word."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value) if str(value).strip() else None


def _texts(values: list[Any]) -> list[str] | None:
    found = [text for value in values if (text := _text(value)) is not None]
    return found if found and len(found) == len(values) else None


def _assignments(table: Mapping[str, Any], within: str = "") -> list[str] | None:
    """Return NAME=VALUE for everything in a table; a table in it has names with dots, a list is a,b,c."""
    found: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            inner = _assignments(value, f"{within}{name}.")
            if inner is None:
                return None
            found += inner
            continue
        texts = _texts(value) if isinstance(value, list) else [_switch(value) or _text(value) or ""]
        if not texts or not all(texts):
            return None
        found.append(f"{within}{name}={','.join(texts)}")
    return found


def _switch(value: object) -> str | None:
    return str(value).lower() if isinstance(value, bool) else None


def combined(of_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a file and of the command line, which wins; in tables it wins name by name."""
    fields = {**of_file, **given}
    for field, key in TABLES.items():
        if field in of_file and field in given:
            own = split_assignments(given[field], f"--{key}")
            kept = [word for word in of_file[field] if word.partition("=")[0] not in own]
            fields[field] = (*kept, *given[field])
    return fields


def config_text(request: Request) -> str:
    """Return the file of what was given, with *** for each password.

    Raise Mistake for words of tables that are no NAME=VALUE.
    """
    lines, tables = [], []
    for field, value in vars(request).items():
        if field in TABLES and value:
            pairs = split_assignments(value, f"--{TABLES[field]}")
            assigned = [f"{_quoted_key(name)} = {_value(text)}" for name, text in pairs.items()]
            tables.append("\n".join([f"\n[{TABLES[field]}]", *assigned]))
        elif _is_written(request, field):
            lines.append(f"{KEYS.get(field, field.replace('_', '-'))} = {_toml(value)}")
    text = "\n".join([*lines, *tables])
    hint = f"# {HINT}\n" if MASK in text else ""
    return f"{HEAD}{hint}{text}\n"


def kept_config(request: Request) -> str:
    """Return the file that a sweep keeps: without what concerns one run of the command alone."""
    once = dataclasses.replace(request, resume=False, accept_versions=False, dry_run=False, probe=None)
    return config_text(once)


def _is_written(request: Request, field: str) -> bool:
    """Return whether a field of the request is one that was given, and has a value."""
    value, default = getattr(request, field), getattr(Request(), field)
    written = field not in ("given", *OF_A_COMMAND, *TABLES) and (field in request.given or value != default)
    return written and value is not None and value is not False and value != ()


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(masked(value)) if isinstance(value, str) else repr(value)


def _value(text: str) -> str:
    """Return a word as TOML: bare if a number or true and false read from it give the same word again."""
    try:
        read = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, ValueError):
        return _quoted(text)
    same = not isinstance(read, str) and (_switch(read) or _text(read)) == text
    return text if same else _quoted(text)


def _quoted(text: str) -> str:
    r"""Return a TOML string: JSON's escapes, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _quoted_key(name: str) -> str:
    """Return a name as a key, in quotes if it has a dot."""
    return name if name.replace("_", "").isalnum() and name.isascii() else _quoted(name)

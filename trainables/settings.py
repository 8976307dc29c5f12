"""Fields of data classes that can be set by name, with their meaning, type and valid values."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_type_hints

from trainables.mistake import Mistake, unknown

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Valid:
    """A setting's meaning and valid values: numbers between the bounds, or one of the choices."""

    meaning: str
    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None
    choices: tuple[str, ...] | None = None
    later: bool = False
    """Whether version 0.1 did not have it."""
    scale: str | None = None
    """How a range of it is searched, "log" or "linear", or "choice" if only lists are; None: not at all."""

    def words(self, kind: type) -> str:
        """Return the valid values in words, such as "a whole number of at least 1"."""
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        if kind is bool:
            return "true or false"
        if kind is str:
            return "a word"
        noun = "a whole number" if kind is int else "a number"
        if self.at_least is not None and self.at_most is not None:
            return f"{noun} from {_shown(self.at_least)} to {_shown(self.at_most)}"
        bounds = [
            ("of at least", self.at_least),
            ("above", self.more_than),
            ("of at most", self.at_most),
            ("below", self.less_than),
        ]
        limits = [f"{word} {_shown(bound)}" for word, bound in bounds if bound is not None]
        return " ".join([noun, " and ".join(limits)]).strip()

    def holds(self, value: Any) -> bool:
        """Return whether a value of the right type is valid; NaN and infinities are not."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, bool | str):
            return True
        return (
            (isinstance(value, int) or math.isfinite(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.more_than is None or value > self.more_than)
            and (self.at_most is None or value <= self.at_most)
            and (self.less_than is None or value < self.less_than)
        )


def _shown(bound: float) -> str:
    """Return a bound as a person types it; whole numbers with all their places."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def setting(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    less_than: float | None = None,
    choices: Sequence[str] | None = None,
    later: bool = False,
    scale: str | None = None,
) -> Any:
    """Return a data class field that `--set` can change, with its meaning and valid values.

    One that was added `later`, after version 0.1, is not among the `values_of` that leave it at its default.
    One with a `scale` can be searched: then it changes neither the data nor the network's size nor how long
    it is trained, so that validation accuracies can be compared.
    """
    allowed = tuple(choices) if choices else None
    valid = Valid(meaning, at_least, more_than, at_most, less_than, allowed, later, scale)
    return dataclasses.field(default=default, metadata={"valid": valid})


def valid_of(cls: type) -> dict[str, tuple[type, Valid]]:
    """Return the type and the valid values of every setting of a data class, by name."""
    types = get_type_hints(cls)
    return {
        f.name: (types[f.name], f.metadata["valid"]) for f in dataclasses.fields(cls) if "valid" in f.metadata
    }


def values_of(instance: Any) -> dict[str, Any]:
    """Return the fields of a data class instance by name, for hashes that outlive versions.

    Settings that were added later are left out at their default, so that what an earlier version could say
    keeps its hash.
    """
    later = {field.name: field.default for field in dataclasses.fields(instance) if _is_later(field)}
    values = dataclasses.asdict(instance)
    return {name: value for name, value in values.items() if name not in later or value != later[name]}


def _is_later(field: dataclasses.Field[Any]) -> bool:
    return "valid" in field.metadata and field.metadata["valid"].later


def check(instance: Any) -> None:
    """Raise Mistake for the first setting of a data class instance whose type or value is not valid."""
    for name, (kind, valid) in valid_of(type(instance)).items():
        value = getattr(instance, name)
        right_type = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right_type or not valid.holds(value):
            raise Mistake(f"{name}={value} is not valid: {name} ({valid.meaning}) takes {valid.words(kind)}.")


def parse(kind: type, name: str, text: str, valid: Valid) -> Any:
    """Return a setting's value from its text; raise Mistake, which says what is valid, for other texts."""
    wrong = Mistake(f"{name}={text} is not valid: {name} ({valid.meaning}) takes {valid.words(kind)}.")
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise wrong
        return words[text.lower()]
    try:
        value = kind(text)
    except ValueError:
        raise wrong from None
    if not valid.holds(value):
        raise wrong
    return value


def split_assignments(assignments: Iterable[str], option: str = "--set") -> dict[str, str]:
    """Return {"key": "value"} from an option's words like key=value.

    Raise Mistake for other words and contradictions.
    """
    pairs: dict[str, str] = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            example = "learning_rate=0.01..0.3" if option == "--search" else "epochs=20"
            raise Mistake(f"{option} takes key=value pairs, such as {example}, but was given {word!r}.")
        if re.search(r",[a-z_]+(\.[a-z-]+)?=", value):
            apart = re.sub(r",(?=[a-z_.-]+=)", " ", word)
            raise Mistake(f"{option} was given {word!r}: separate with spaces, without commas: {apart}.")
        if pairs.get(name, value) != value:
            raise Mistake(f"{option} gives {name} twice, as {pairs[name]} and as {value}: keep one.")
        pairs[name] = value
    return pairs


def assign(instance: T, assignments: dict[str, str]) -> T:
    """Return a copy of a data class instance with these settings replaced, parsed from text.

    Raise Mistake for a name that is not a setting and for a value that is not valid.
    """
    known = valid_of(type(instance))
    values = {}
    for name, text in assignments.items():
        if name not in known:
            raise unknown("field", name, known)
        kind, valid = known[name]
        values[name] = parse(kind, name, text, valid)
    return dataclasses.replace(instance, **values)  # type: ignore[type-var]

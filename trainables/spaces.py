"""Spaces in which lambda and fields of the recipe are searched, and their text.

The text is what people write and read, and part of a cell's key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainables.mistake import Mistake
from trainables.settings import Valid, parse

LOG, LINEAR, CHOICE = "log", "linear", "choice"

FEW = 8
"""A range of at most so many whole numbers is the list of them."""

Value = float | int | str | bool
"""What a searched field can be."""


@dataclass(frozen=True)
class LogUniform:
    """A continuous range, searched on a logarithmic scale; its text is "low..high"."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_exact(self.low)}..{_exact(self.high)}"

    def at(self, share: float) -> float:
        """Return the value at a share of the way from the low to the high end, to four places."""
        there = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return min(max(_rounded(there), self.low), self.high)


@dataclass(frozen=True)
class Uniform:
    """A continuous range, searched on a linear scale; its text is "linear:low..high"."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{LINEAR}:{_exact(self.low)}..{_exact(self.high)}"

    def at(self, share: float) -> float:
        """Return the value at a share of the way from the low to the high end, to four places."""
        return min(max(_rounded(self.low + share * (self.high - self.low)), self.low), self.high)


@dataclass(frozen=True)
class Integers:
    """A range of whole numbers; its text is "low..high" on a logarithmic scale, or "linear:low..high"."""

    low: int
    high: int
    log: bool

    def __str__(self) -> str:
        return f"{'' if self.log else f'{LINEAR}:'}{self.low}..{self.high}"

    def at(self, share: float) -> int:
        """Return the value at a share of the way from the low to the high end."""
        ends = LogUniform(self.low, self.high) if self.log else Uniform(self.low, self.high)
        return round(ends.at(share))


@dataclass(frozen=True)
class Grid:
    """A list of numbers, each tried once; its text is "a,b,c"."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(_exact(value) for value in self.values)

    def at(self, share: float) -> float:
        """Return the value at a share of the way along the list."""
        return self.values[_place(share, len(self.values))]


@dataclass(frozen=True)
class Choices:
    """A list of whole numbers, words, or true and false, each tried once; its text is "a,b,c"."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return ",".join(map(spelt, self.values))

    def at(self, share: float) -> Value:
        """Return the value at a share of the way along the list."""
        return self.values[_place(share, len(self.values))]


Weighing = LogUniform | Grid
"""A space of lambda."""
Space = LogUniform | Uniform | Integers | Grid | Choices


def spelt(value: Value) -> str:
    """Return a value as a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return _exact(value) if isinstance(value, float) else str(value)


def _exact(number: float) -> str:
    """Return a number's short text (at most six digits) if it reads back as the same float, else repr's."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def _rounded(number: float) -> float:
    """Return a number to four places, which no processor's logarithm changes."""
    return float(f"{number:.4g}")


def _place(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


def parse_space(text: str) -> Weighing:
    """Return the space of "low..high" (log-uniform) or "a,b,c" (a list); raise Mistake for other texts.

    It inverts str: parse_space(str(space)) == space.
    """
    wrong = Mistake(
        f"{text!r} is no space for lambda: give a range such as 0.05..5 (searched on a log scale) "
        "or a list such as 0.5,1.0, of finite numbers above 0 without repeats."
    )
    try:
        numbers = [float(part) for part in text.split(".." if ".." in text else ",")]
    except ValueError:
        raise wrong from None
    if any(not math.isfinite(number) or number <= 0 for number in numbers):
        raise wrong
    if ".." in text:
        if len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise wrong
        return LogUniform(*numbers)
    if len(set(numbers)) < len(numbers):
        raise wrong
    return Grid(tuple(numbers))


def parse_searched(name: str, text: str, kind: type, valid: Valid, scale: str | None = None) -> Space:
    """Return the space of a recipe's field; raise Mistake, which says what is valid, for other texts.

    Ranges are "low..high", on the field's own scale or the one given, and log:low..high and
    linear:low..high; lists are "a,b,c". With scale="log" it inverts str.
    """
    prefix, colon, rest = text.partition(":")
    scale, text = (prefix, rest) if colon else (scale or valid.scale or CHOICE, text)
    if scale not in (LOG, LINEAR, CHOICE):
        raise Mistake(
            f"{name}={prefix}:{rest} has no scale {prefix!r}: write log: or linear: before a range."
        )
    if ".." not in text:
        return _list(name, text, kind, valid)
    if kind not in (int, float):
        raise Mistake(f"{name}={text} is a range, and {name} takes {valid.words(kind)}: give a list, a,b.")
    low, high = (parse(kind, name, end, valid) for end in text.split("..", 1))
    if low >= high:
        raise Mistake(f"{name}={text} is no range: its first number must be below its second.")
    if scale == LOG and low <= 0:
        raise Mistake(
            f"{name}={text} cannot be searched on a log scale, which has no {low:g}: begin above it, or "
            f"write linear:{text}."
        )
    if kind is int and high - low < FEW:
        return Choices(tuple(range(low, high + 1)))
    if kind is int:
        return Integers(low, high, log=scale == LOG)
    return LogUniform(low, high) if scale == LOG else Uniform(low, high)


def _list(name: str, text: str, kind: type, valid: Valid) -> Space:
    values = tuple(parse(kind, name, part, valid) for part in text.split(","))
    if len(values) < 2:
        raise Mistake(f"{name}={text} leaves nothing to search: set one value with --set {name}={text}.")
    if len(set(values)) < len(values):
        raise Mistake(f"{name}={text} lists a value twice: name it once.")
    return Grid(values) if kind is float else Choices(values)

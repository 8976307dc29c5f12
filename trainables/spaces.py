"""Spaces in which lambda is searched, and their text.

The text is what people write and read, and part of a cell's key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainables.mistake import Mistake


@dataclass(frozen=True)
class LogUniform:
    """A continuous range of weights, searched on a logarithmic scale; its text is "low..high"."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_exact(self.low)}..{_exact(self.high)}"


@dataclass(frozen=True)
class Grid:
    """A list of weights, each tried once; its text is "a,b,c"."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(_exact(value) for value in self.values)


Space = LogUniform | Grid


def _exact(number: float) -> str:
    """Return a number's short text (at most six digits) if it reads back as the same float, else repr's."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def parse_space(text: str) -> Space:
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

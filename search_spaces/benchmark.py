"""The description of a benchmark, and the spaces in which lambda is searched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.run import parse_method

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest
    from trainables.data.readers.source import Source


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


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its data, its recipe, the methods it can compare, and how lambda is searched."""

    name: str
    reader: str | Callable[[DataRequest], Source]
    """Module of trainables.data.readers that reads its data, or a plug-in's function that does."""
    recipe: Recipe
    methods: tuple[str, ...]
    """Method parts that can run on it; "+" joins them."""
    spaces: Mapping[str, Space]
    """Search space of each auxiliary task's weight."""
    lambda_trials: int
    classes: tuple[str, ...] | None = None
    """None if the data determines them."""
    train_counts: tuple[int, ...] | None = None
    """Training images of each class."""
    train_total: int | None = None
    """Sum of the training images, if only that is known: costs then assume equal counts per class."""
    test_counts: tuple[int, ...] | None = None
    """Test images of each class."""
    channels: int = 3
    """1 for greyscale, 3 for RGB."""
    cpc_network: Mapping[str, object] = field(default_factory=dict)
    """Recipe fields of a sweep that includes CPC: all of its methods then use this network."""
    reference: Mapping[str, object] = field(default_factory=dict)
    """Switches of fidelity=reference whose values in the authors' code differ from those for CIFAR-10."""
    paper_tables: tuple[str, ...] = ()
    """Tables of the paper with numbers for this benchmark."""
    total_batch: int | None = None
    """Images per step of all workers together, in the paper."""

    def recipe_for(self, methods: tuple[str, ...]) -> Recipe:
        """Return the recipe shared by all runs of a sweep over these methods."""
        if any("cpc" in parse_method(method).auxiliary for method in methods):
            return replace(self.recipe, **self.cpc_network)  # type: ignore[arg-type]
        return self.recipe

    def reference_for(self, methods: tuple[str, ...]) -> dict[str, object]:
        """Return the switches that differ from REFERENCE_SWITCHES when fidelity=reference is set.

        The authors' CPC code has ODIN's step in units of 0..1.
        """
        cpc = any("cpc" in parse_method(method).auxiliary for method in methods)
        return {**self.reference, **({"odin_units": "unit"} if cpc else {})}

    def check_method(self, name: str) -> None:
        """Raise Mistake for a method that does not exist or cannot run on this benchmark."""
        parse_method(name)
        refused = [part for part in name.split("+") if part not in self.methods]
        if refused:
            raise Mistake(
                f"{self.name} cannot run the method {refused[0]!r}; it runs {', '.join(self.methods)}."
            )

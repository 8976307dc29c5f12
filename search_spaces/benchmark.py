"""The form in which a benchmark is written down, and the spaces that lambda is searched in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainables.mistake import Mistake
from trainables.run import Recipe, parse_method


@dataclass(frozen=True)
class LogUniform:
    """A continuous range of weights, searched on a logarithmic scale."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Grid:
    """A list of weights, each tried once."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for value in self.values)


Space = LogUniform | Grid


def parse_space(text: str) -> Space:
    """A space from "low..high" (log-uniform) or "a,b,c" (a list); Mistake for anything else."""
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
    """A benchmark: its data, its recipe, what can be compared on it and how lambda is searched."""

    name: str
    reader: str
    """Module of trainables.data.readers that reads it."""
    recipe: Recipe
    methods: tuple[str, ...]
    """Method parts that can run on it; "+" joins them."""
    spaces: Mapping[str, Space]
    """Where each auxiliary task's weight is searched."""
    lambda_trials: int
    classes: tuple[str, ...] | None = None
    """None where the data decides."""
    train_counts: tuple[int, ...] | None = None
    """Training images of each class."""
    train_total: int | None = None
    """Their sum, where it is known and they are not: costs are then reckoned with equal shares."""
    test_counts: tuple[int, ...] | None = None
    channels: int = 3
    cpc_network: Mapping[str, object] = field(default_factory=dict)
    """Recipe fields of a sweep with CPC among its methods: all its methods then share that network."""
    reference: Mapping[str, object] = field(default_factory=dict)
    """Switches that the authors' code has otherwise here than on CIFAR-10, for fidelity=reference."""
    paper_tables: tuple[str, ...] = ()
    """Tables of the paper that hold numbers for it."""
    total_batch: int | None = None
    """Images a step of all workers together in the paper."""

    def recipe_for(self, methods: tuple[str, ...]) -> Recipe:
        """The recipe that every run of a sweep over these methods shares."""
        if any("cpc" in parse_method(method).auxiliary for method in methods):
            return replace(self.recipe, **self.cpc_network)  # type: ignore[arg-type]
        return self.recipe

    def reference_for(self, methods: tuple[str, ...]) -> dict[str, object]:
        """What fidelity=reference leaves as it is: the CPC code has ODIN's step in units of 0..1."""
        cpc = any("cpc" in parse_method(method).auxiliary for method in methods)
        return {**self.reference, **({"odin_units": "unit"} if cpc else {})}

    def check_method(self, name: str) -> None:
        """Raises Mistake for a method that does not exist or cannot run on this benchmark."""
        parse_method(name)
        refused = [part for part in name.split("+") if part not in self.methods]
        if refused:
            raise Mistake(
                f"{self.name} cannot run the method {refused[0]!r}; it runs {', '.join(self.methods)}."
            )

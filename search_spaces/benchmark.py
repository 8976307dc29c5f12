"""The description of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.run import parse_method
from trainables.spaces import Grid, LogUniform, Space

__all__ = ["Benchmark", "Grid", "LogUniform"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its data, its recipe, the methods it can compare, and how lambda is searched."""

    name: str
    reader: str
    """Module of trainables.data.readers that reads its data."""
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

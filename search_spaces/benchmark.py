"""The description of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trainables.auxiliary import TASKS
from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.run import MODIFIERS, check_method, parse_method
from trainables.spaces import Weighing
from trainables.training_free import TRAINING_FREE

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest
    from trainables.data.readers.source import Source

__all__ = ["DEFAULT_METHODS", "Benchmark", "PaperSelection"]

DEFAULT_METHODS = ("classification", "rotation")
"""What a sweep compares unless it says otherwise."""


@dataclass(frozen=True)
class PaperSelection:
    """How the paper chose an auxiliary task's lambda on a benchmark, as far as it says."""

    space: Weighing
    for_each: str
    """What has a lambda of its own: a "holdout" or the "benchmark"."""
    known: str
    """What the paper says of it, a noun phrase."""
    inferred: str
    """What it does not say, and what is done here instead."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its data, its recipe, the methods it can compare, and how lambda is searched."""

    name: str
    reader: str | Callable[[DataRequest], Source]
    """Module of trainables.data.readers that reads its data, or a plug-in's function that does."""
    recipe: Recipe
    methods: tuple[str, ...]
    """Method parts that can run on it, in the order in which "+" joins them."""
    lambda_trials: int
    spaces: Mapping[str, Weighing] = field(default_factory=dict)
    """Search spaces of auxiliary tasks' weights; others have the task's own."""
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
    networks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """By auxiliary task, recipe fields of a sweep that includes it: all of its methods use this network."""
    reference: Mapping[str, object] = field(default_factory=dict)
    """Switches of fidelity=reference whose values in the authors' code differ from those for CIFAR-10."""
    paper_tables: tuple[str, ...] = ()
    """Tables of the paper with numbers for this benchmark."""
    total_batch: int | None = None
    """Images per step of all workers together, in the paper."""
    paper_selection: Mapping[str, PaperSelection] = field(default_factory=dict)
    """By auxiliary task, how the paper chose lambda; empty if it has none of this benchmark."""

    def recipe_for(self, methods: tuple[str, ...]) -> Recipe:
        """Return the recipe shared by all runs of a sweep over these methods."""
        recipe = self.recipe
        for task in self.tasks(methods):
            recipe = replace(recipe, **self.networks.get(task, {}))  # type: ignore[arg-type]
        return recipe

    def reference_for(self, methods: tuple[str, ...]) -> dict[str, object]:
        """Return the switches that differ from REFERENCE_SWITCHES when fidelity=reference is set."""
        switches = dict(self.reference)
        for task in self.tasks(methods):
            switches.update(TASKS.find(task).reference)
        return switches

    def tasks(self, methods: Iterable[str]) -> tuple[str, ...]:
        """Return the auxiliary tasks of these methods, each once, in the order of `methods`."""
        return self._ordered({task for method in methods for task in parse_method(method).auxiliary})

    def space(self, task: str) -> Weighing:
        """Return where an auxiliary task's weight is searched: here, or wherever the task is used."""
        return self.spaces.get(task) or TASKS.find(task).space

    def canonical(self, name: str) -> str:
        """Return a method's name with its parts in the order of `methods`: a+b for b+a.

        Tasks that are not in `methods`, which come from plug-ins, follow by name; modifiers are last.
        """
        return "+".join(self._ordered(name.split("+")))

    def _ordered(self, parts: Iterable[str]) -> tuple[str, ...]:
        def place(part: str) -> tuple[bool, int, str]:
            known = part in self.methods
            return part in MODIFIERS, self.methods.index(part) if known else len(self.methods), part

        return tuple(sorted(parts, key=place))

    def check_method(self, name: str) -> None:
        """Raise Mistake for a method that does not exist or cannot run on this benchmark."""
        check_method(name)
        brought = (task for task in TASKS.names if task not in TASKS.built_in)
        runs = tuple(dict.fromkeys((*self.methods, *brought, *TRAINING_FREE.names)))
        refused = [part for part in name.split("+") if part not in runs]
        if refused:
            raise Mistake(f"{self.name} cannot run the method {refused[0]!r}; it runs {', '.join(runs)}.")

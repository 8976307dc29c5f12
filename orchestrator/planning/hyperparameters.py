"""What a study tries and chooses: lambda by auxiliary task, and values of the recipe's searched fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.recipe import Recipe
from trainables.spaces import Value, spelt

Weights = dict[str, float]
"""lambda by auxiliary task."""


@dataclass(frozen=True)
class Hyperparameters:
    """Values of what is searched, or given; they stand in a cell's result."""

    aux_weights: Weights
    fields: dict[str, Value] = field(default_factory=dict)
    """Values of fields of the recipe, by name."""

    @staticmethod
    def of(result: Mapping[str, Any]) -> Hyperparameters:
        """Return those that a cell's result, or another file or message, states."""
        return Hyperparameters(dict(result["aux_weights"]), dict(result.get("fields", {})))

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON; fields are left out if none was searched."""
        return {"aux_weights": self.aux_weights, **({"fields": self.fields} if self.fields else {})}

    def of_recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the searched fields as they are here."""
        return dataclasses.replace(recipe, **self.fields) if self.fields else recipe  # type: ignore[arg-type]

    def __str__(self) -> str:
        weights = [f"{task} {weight:.4g}" for task, weight in self.aux_weights.items()]
        return ", ".join([*weights, *(f"{name} {short(value)}" for name, value in self.fields.items())])


def short(value: Value, places: int = 4) -> str:
    """Return a value for people, numbers to so many places."""
    return f"{value:.{places}g}" if isinstance(value, float) else spelt(value)

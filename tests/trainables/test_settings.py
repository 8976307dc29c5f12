"""Settings: text becomes a checked value, or a sentence that says what is valid."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pytest

from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.settings import assign, setting, split_assignments, valid_of, values_of


def test_values_are_parsed_by_type() -> None:
    typed = {"epochs": "7", "learning_rate": "0.05", "flip": "false", "padding": "symmetric"}
    recipe = assign(Recipe(), typed)
    assert (recipe.epochs, recipe.learning_rate, recipe.flip, recipe.padding) == (7, 0.05, False, "symmetric")


@pytest.mark.parametrize(
    "typed",
    ["epochs=0", "epochs=-3", "epochs=2.5", "epochs=many", "learning_rate=0", "learning_rate=nan",
     "learning_rate=inf", "learning_rate=-1", "dropout=1", "momentum=1", "weight_decay=-0.1",
     "train_fraction=0", "train_fraction=1.1", "validation_fraction=0", "validation_fraction=1",
     "batch_size=1", "flip=perhaps", "padding=circular",
     "precision=float16", "batch_norm_statistics=none", "ap_window=0", "evaluate_every=-1", "image_size=7",
     "depth=11", "depth=9", "width=0"],
)  # fmt: skip
def test_an_invalid_value_is_named(typed: str) -> None:
    name, value = typed.split("=")
    with pytest.raises(Mistake) as mistake:
        assign(Recipe(), {name: value})
    assert f"{name}={value} is not valid" in str(mistake.value)


def test_an_unknown_field_lists_the_valid_ones_and_the_closest() -> None:
    with pytest.raises(Mistake, match=r"no field 'epoch'. Did you mean 'epochs'\? Valid: depth, .*epochs"):
        assign(Recipe(), {"epoch": "3"})


def test_malformed_assignments_are_refused() -> None:
    assert split_assignments(["a=1", "b=2", "a=1"]) == {"a": "1", "b": "2"}
    for words in (["epochs"], ["=3"], ["epochs="], ["a=1", "a=2"]):
        with pytest.raises(Mistake):
            split_assignments(words)


def test_every_field_of_a_recipe_can_be_set_and_says_what_it_means() -> None:
    for name, (kind, valid) in valid_of(Recipe).items():
        assert valid.meaning
        assert assign(Recipe(), {name: str(getattr(Recipe(), name))}) == Recipe(), (name, kind)


def test_a_setting_that_came_later_counts_only_where_it_is_set() -> None:
    @dataclass(frozen=True)
    class Grown(Recipe):
        smoothing: float = setting(0.0, "weight of the uniform label", at_least=0, less_than=1, later=True)

    assert values_of(Grown()) == asdict(Recipe())
    assert values_of(Grown(smoothing=0.1)) == {**asdict(Recipe()), "smoothing": 0.1}
    assert assign(Grown(), {"smoothing": "0.2"}).smoothing == 0.2

"""Fields of recipes, and what follows from them."""

from __future__ import annotations

import pytest

from trainables.mistake import Mistake
from trainables.recipe import Recipe, total_batch_size, with_fidelity


def test_reference_fidelity_sets_every_switch_that_differs_and_only_those() -> None:
    reference = with_fidelity(Recipe(), "reference")
    changed = {name for name, value in vars(reference).items() if value != getattr(Recipe(), name)}
    assert changed == {
        "fidelity",
        "batch_norm_statistics",
        "stem",
        "rotation_set",
        "epoch_length",
        "odin_units",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"depth": 12},
        {"depth": 16, "groups": 4},
        {"image_size": 64, "stored_size": 32},
        {"batch_size": 96, "micro_batch": 64},
    ],
)
def test_fields_that_do_not_fit_together_are_mistakes(fields: dict) -> None:
    with pytest.raises(Mistake):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("epochs", "ap_window", "evaluate_every", "expected"),
    [
        (6, 2, 0, [5, 6]),
        (6, 2, 2, [2, 4, 5, 6]),
        (6, 2, 3, [3, 5, 6]),
        (6, 2, 5, [5, 6]),
        (3, 10, 0, [1, 2, 3]),
        (3, 10, 2, [1, 2, 3]),
        (1, 1, 7, [1]),
    ],
)
def test_a_recipe_evaluates_every_so_often_and_in_its_window(
    epochs: int, ap_window: int, evaluate_every: int, expected: list[int]
) -> None:
    recipe = Recipe(epochs=epochs, ap_window=ap_window, evaluate_every=evaluate_every)
    assert [epoch for epoch in range(1, epochs + 1) if recipe.evaluates_after(epoch)] == expected
    assert recipe.evaluation_count == len(expected)


@pytest.mark.parametrize(
    ("images", "workers", "expected"), [(1000, 1, 64), (1000, 4, 256), (50, 1, 50), (100, 3, 99), (2, 3, 0)]
)
def test_workers_share_a_batch_equally(images: int, workers: int, expected: int) -> None:
    assert total_batch_size(Recipe(batch_size=64), images, workers) == expected


def test_a_network_is_named_by_depth_and_width() -> None:
    assert Recipe(depth=28, width=10).network_name == "WRN-28-10"

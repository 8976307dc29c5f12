"""FLOPs of whole runs; networks/test_wide_resnet.py compares those of an image with torch's counter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainables.flops import Work, run_flops
from trainables.networks.flops import forward_flops, training_flops
from trainables.recipe import Recipe

RECIPE = Recipe(depth=10, width=1, image_size=8, epochs=20, ap_window=5)


def test_a_final_run_trains_every_epoch_and_scores_the_last_window() -> None:
    image, (forward, _) = training_flops(RECIPE, 1, 9), forward_flops(RECIPE, 1, 9)
    expected = 20 * 1000 * image + 5 * 700 * 3 * forward
    assert run_flops(RECIPE, "classification", Work(1000, 700), 1, 9, search=False) == expected


def test_a_rotation_step_is_a_classification_step_with_four_classes() -> None:
    plain = run_flops(RECIPE, "classification", Work(1000, 0), 1, 9, search=True)
    both = run_flops(RECIPE, "rotation", Work(1000, 0), 1, 9, search=True)
    assert both - plain == 20 * 1000 * training_flops(RECIPE, 1, 4)


@pytest.mark.parametrize(("every", "times"), [(0, 1), (1, 20), (5, 4), (6, 4), (50, 1)])
def test_a_search_run_is_validated_as_often_as_evaluate_every_says_and_at_its_end(
    every: int, times: int
) -> None:
    recipe = replace(RECIPE, evaluate_every=every)
    work = [run_flops(recipe, "classification", Work(800, n), 1, 9, search=True) for n in (0, 200)]
    assert work[1] - work[0] == times * 200 * forward_flops(RECIPE, 1, 9)[0]
    assert times == sum(map(recipe.validates_after, range(1, 21)))

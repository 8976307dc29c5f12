"""The time of a run from that of its parts, by hand."""

from __future__ import annotations

import pytest

from trainables.pace import Counts, Effort, Pace, counts_of, mean_pace, steps_per_epoch
from trainables.recipe import Recipe

PACE = Pace(begin=2.0, step=0.5, epoch=0.25, evaluated_image=0.01, end=3.0, steps=10, noise=0.1)


def test_a_run_s_time_is_the_sum_of_its_parts() -> None:
    effort = Effort(steps=20, epochs=4, evaluations=2, evaluated_images=200)
    assert PACE.seconds(effort) == pytest.approx(2 + 20 * 0.5 + 4 * 0.25 + 200 * 0.01 + 3)
    assert PACE.seconds(Effort(ends=False)) == pytest.approx(2)


def test_processes_beside_each_other_have_a_mean_pace() -> None:
    other = Pace(begin=4.0, step=1.5, epoch=0.25, evaluated_image=0.03, end=3.0, steps=6, noise=0.1)
    found = mean_pace([PACE, other])
    assert (found.begin, found.step, found.evaluated_image) == (3.0, 1.0, pytest.approx(0.02))
    assert found.steps == 16
    assert found.noise == pytest.approx(0.1 / 2**0.5)


def test_the_images_of_runs() -> None:
    train, test = {"a": 10, "b": 20, "c": 30}, {"a": 1, "b": 2, "c": 3}
    half = Recipe(train_fraction=0.5, validation_fraction=0.2)
    assert counts_of(half, train, test, "c", search=False) == Counts(trained=15, whole=15, evaluated=6)
    assert counts_of(half, train, test, "c", search=True) == Counts(trained=12, whole=12, evaluated=3)
    assert counts_of(half, train, test, "none", search=False).trained == 30
    whole = Recipe(train_fraction=0.5, epoch_length="whole")
    assert counts_of(whole, train, test, "c", search=False) == Counts(trained=15, whole=30, evaluated=6)


def test_the_steps_of_an_epoch() -> None:
    counts = Counts(trained=100, whole=100, evaluated=1)
    assert steps_per_epoch(Recipe(batch_size=30), counts, 1) == 3
    assert steps_per_epoch(Recipe(batch_size=30), counts, 2) == 1
    assert steps_per_epoch(Recipe(batch_size=400), counts, 1) == 1, "as many as there are"

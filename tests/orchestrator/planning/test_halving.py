"""Successive halving: its rungs, who goes on from them, and what it costs."""

from __future__ import annotations

import math
import random

import pytest

from orchestrator.planning.halving import places, promoted, rung_epochs, share_of_training, stopped
from trainables.mistake import Mistake


@pytest.mark.parametrize(
    ("epochs", "eta", "trials", "rungs", "trained"),
    [
        (9, 3, 9, (1, 3, 9), (9, 3, 1)),
        (200, 3, 9, (23, 67, 200), (9, 3, 1)),
        (10, 2, 5, (3, 5, 10), (5, 2, 1)),
        (4, 2, 2, (2, 4), (2, 1)),
        (20, 3, 8, (7, 20), (8, 2)),
    ],
)
def test_rungs_are_the_epochs_divided_by_powers_of_eta_rounded_up(
    epochs: int, eta: int, trials: int, rungs: tuple[int, ...], trained: tuple[int, ...]
) -> None:
    assert rung_epochs(epochs, eta, trials) == rungs
    assert tuple(places(eta, trials)) == trained
    assert rungs == tuple(math.ceil(epochs / eta**k) for k in reversed(range(len(rungs))))


@pytest.mark.parametrize(
    ("epochs", "eta", "trials", "words"),
    [
        (9, 3, 2, "--halving 3 has no use with 2 trials in a study"),
        (3, 3, 27, "has rungs after epochs 1, 1, 1, 3, which are not all different: train for at least 27"),
    ],
)
def test_a_bracket_that_makes_no_sense_is_refused(epochs: int, eta: int, trials: int, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        rung_epochs(epochs, eta, trials)


def test_the_best_go_on_and_ties_go_by_index() -> None:
    assert promoted({0: 0.5, 1: 0.9, 2: 0.9, 3: 0.1, 4: 0.9, 5: 0.2}, 3) == [1, 2]
    assert promoted({3: 0.5, 1: 0.5}, 3) == [1]


def test_the_share_of_training_is_what_a_bracket_counts_epoch_by_epoch() -> None:
    for epochs, eta, trials in ((9, 3, 9), (200, 3, 9), (10, 2, 5), (27, 3, 30)):
        rng = random.Random(trials)
        rungs = rung_epochs(epochs, eta, trials)
        values = {index: {rung: rng.random() for rung in rungs} for index in range(trials)}
        ends, until = stopped(values, rungs, eta)
        assert until == epochs
        counted = sum(ends.get(index, epochs) for index in range(trials))
        assert share_of_training(epochs, eta, trials) == pytest.approx(counted / (trials * epochs))
        for index, rung in ends.items():  # nobody who stops is better than somebody who goes on
            going = [i for i in range(trials) if ends.get(i, epochs) > rung]
            assert values[index][rung] <= min(values[i][rung] for i in going)


def test_what_lacks_a_value_decides_nothing_from_there_on() -> None:
    values = {0: {1: 0.9}, 1: {1: 0.8, 2: 0.7, 4: 0.7}, 2: {1: 0.1}, 3: {1: 0.2}}
    assert stopped(values, (1, 2, 4), 2) == ({2: 1, 3: 1}, 2)


def test_nine_trials_by_three_cost_a_quarter() -> None:
    assert share_of_training(200, 3, 9) == pytest.approx(0.26, abs=0.01)

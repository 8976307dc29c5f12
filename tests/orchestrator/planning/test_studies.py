"""Studies: reproducible, within their range, and without repeats on lists."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from orchestrator.planning.cells import Definition
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.studies import (
    History,
    Tried,
    choose,
    opens_until,
    smoothed,
    starts_of,
    suggest,
)
from trainables.spaces import Choices, Grid, Integers, LogUniform, Space, Uniform


def definition(spaces: dict[str, Space], **changes: object) -> Definition:
    fields = {"method": "rotation", "holdouts": ("cat",), "trials": 12, "search_round": 1, "sweep_seed": 0}
    return Definition(spaces=tuple(spaces.items()), **{**fields, **changes})  # type: ignore[arg-type]


RANGE = definition({"rotation": LogUniform(0.05, 5)})


def search(study: Definition, best: float) -> History:
    """A whole study of a smooth value with its maximum at one weight."""
    history: list = []
    for index in range(study.trials):
        what = suggest(study, history, index)
        history.append(Tried(index, what, 1 - math.log(what.aux_weights["rotation"] / best) ** 2))
    return history


def test_a_range_is_searched_within_its_bounds_and_repeats_exactly() -> None:
    history = search(RANGE, best=1.0)
    assert search(RANGE, best=1.0) == history
    weights = [tried.what.aux_weights["rotation"] for tried in history]
    assert all(0.05 <= weight <= 5 for weight in weights)
    assert len(set(weights)) == len(weights)


def test_tpe_closes_in_on_the_best_weight() -> None:
    study = definition({"rotation": LogUniform(0.05, 5)}, trials=40)
    weights = [tried.what.aux_weights["rotation"] for tried in search(study, best=1.0)]
    early = [abs(math.log(weight)) for weight in weights[:13]]
    late = [abs(math.log(weight)) for weight in weights[-13:]]
    assert sum(late) / len(late) < 0.5 * sum(early) / len(early)


def test_the_sampler_s_seed_comes_from_sweep_study_and_round() -> None:
    first = suggest(RANGE, [], 0)
    assert suggest(definition({"rotation": LogUniform(0.05, 5)}, sweep_seed=1), [], 0) != first
    assert suggest(definition({"rotation": LogUniform(0.05, 5)}, holdouts=("dog",)), [], 0) != first


def test_the_members_of_a_round_differ_and_ignore_each_other() -> None:
    study = definition({"rotation": LogUniform(0.05, 5)}, search_round=4)
    asked = [suggest(study, [], index) for index in range(4)]
    assert len({what.aux_weights["rotation"] for what in asked}) == 4
    history = [Tried(index, what, 0.5) for index, what in enumerate(asked)]
    assert [suggest(study, history[:known], known) for known in range(4)] == asked


def test_lists_are_taken_in_order_all_combinations_once() -> None:
    study = definition({"rotation": Grid((0.5, 1.0)), "cpc": Grid((0.1, 1.0, 10.0))}, trials=6)
    points = [suggest(study, [], index).aux_weights for index in range(6)]
    assert points[:2] == [{"rotation": 0.5, "cpc": 0.1}, {"rotation": 0.5, "cpc": 1.0}]
    assert len({tuple(point.values()) for point in points}) == 6


def test_a_range_and_a_list_are_searched_jointly() -> None:
    study = definition({"rotation": LogUniform(0.05, 5), "cpc": Grid((0.1, 10.0))})
    history: list = []
    for index in range(8):
        what = suggest(study, history, index)
        assert what.aux_weights["cpc"] in (0.1, 10.0)
        assert 0.05 <= what.aux_weights["rotation"] <= 5
        history.append(Tried(index, what, index / 10))


def tried(values: dict[float, float], error: float | None = None) -> History:
    """Return what was tried, values by lambda."""
    return [
        Tried(index, Hyperparameters({"rotation": weight}), value, error)
        for index, (weight, value) in enumerate(values.items())
    ]


@pytest.mark.parametrize(
    ("values", "best"), [({2.0: 0.9, 0.5: 0.9, 1.0: 0.8}, 0.5), ({2.0: 0.0, 3.0: 0.1}, 3.0)]
)
def test_the_best_value_wins_and_ties_go_to_the_smaller_weight(
    values: dict[float, float], best: float
) -> None:
    assert choose(tried(values)).aux_weights == {"rotation": best}


def test_smoothed_takes_the_mean_with_the_neighbours_by_size() -> None:
    history = tried({4.0: 0.5, 0.1: 0.9, 1.0: 0.8, 0.5: 0.4, 2.0: 0.8})
    # By size: 0.1, 0.5, 1, 2, 4 with 0.9, 0.4, 0.8, 0.8, 0.5.
    assert smoothed(history) == pytest.approx({1: 0.65, 3: 0.7, 2: 2 / 3, 4: 0.7, 0: 0.65})
    assert choose(history, "best").aux_weights == {"rotation": 0.1}
    assert choose(history, "smoothed").aux_weights == {"rotation": 0.5}


@pytest.mark.parametrize(("error", "chosen"), [(0.0, 2.0), (0.011, 1.0), (0.2, 0.1)])
def test_one_se_takes_the_smallest_weight_within_a_standard_error_of_the_best(
    error: float, chosen: float
) -> None:
    history = tried({2.0: 0.9, 0.1: 0.75, 1.0: 0.89}, error)
    assert choose(history, "one-se").aux_weights == {"rotation": chosen}


def test_new_studies_start_at_evenly_spaced_points_and_go_on_with_tpe() -> None:
    study = definition({"rotation": LogUniform(0.05, 5)}, starts="spaced")
    first = starts_of(study)
    starts = sorted(suggest(study, [], index).aux_weights["rotation"] for index in range(first))
    steps = [math.log(b / a) for a, b in pairwise(starts)]
    assert steps == pytest.approx([math.log(100) / first] * (first - 1), rel=0.002)  # four places of lambda
    history = search(study, best=1.0)
    assert search(study, best=1.0) == history
    later = [each.what.aux_weights["rotation"] for each in history[first:]]
    assert later
    assert not set(later) & set(starts)
    assert opens_until(study, 0) == first
    assert opens_until(study, first - 1) == first
    assert opens_until(study, first) == first + 1


def test_lists_that_are_longer_than_the_study_are_drawn_from_without_repeats() -> None:
    spaces: dict[str, Space] = {"rotation": Grid((0.5, 1.0, 2.0)), "cpc": Grid((0.1, 1.0, 10.0))}
    drawn = [
        tuple(suggest(definition(spaces, trials=4), [], index).aux_weights.values()) for index in range(4)
    ]
    assert len(set(drawn)) == 4


def test_fields_of_the_recipe_are_searched_in_their_own_spaces() -> None:
    fields: dict[str, Space] = {
        "batch_size": Integers(16, 64, log=True),
        "dropout": Uniform(0.0, 0.5),
        "flip": Choices((True, False)),
    }
    study = definition(
        {"rotation": LogUniform(0.05, 5)}, fields=tuple(fields.items()), starts="spaced", trials=16
    )
    history: list[Tried] = []
    for index in range(study.trials):
        what = suggest(study, history, index)
        assert 0.05 <= what.aux_weights["rotation"] <= 5
        assert isinstance(what.fields["batch_size"], int)
        assert 16 <= what.fields["batch_size"] <= 64
        assert 0 <= float(what.fields["dropout"]) <= 0.5
        assert what.fields["flip"] in (True, False)
        history.append(Tried(index, what, index / 100))
    assert len({str(each.what) for each in history}) == study.trials


def test_weights_that_are_given_stay_while_fields_are_searched() -> None:
    study = definition(
        {}, given=(("rotation", 0.5),), fields=(("learning_rate", LogUniform(0.01, 0.3)),), starts="spaced"
    )
    what = suggest(study, [], 0)
    assert what.aux_weights == {"rotation": 0.5}
    assert 0.01 <= float(what.fields["learning_rate"]) <= 0.3

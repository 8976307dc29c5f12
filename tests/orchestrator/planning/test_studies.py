"""Studies: reproducible, within their range, and without repeats on lists."""

from __future__ import annotations

import math

import pytest

from orchestrator.planning.cells import Definition
from orchestrator.planning.studies import History, choose, suggest
from trainables.spaces import Grid, LogUniform, Space


def definition(spaces: dict[str, Space], **changes: object) -> Definition:
    fields = {"method": "rotation", "holdouts": ("cat",), "trials": 12, "search_round": 1, "sweep_seed": 0}
    return Definition(spaces=tuple(spaces.items()), **{**fields, **changes})  # type: ignore[arg-type]


RANGE = definition({"rotation": LogUniform(0.05, 5)})


def search(study: Definition, best: float) -> History:
    """A whole study of a smooth value with its maximum at one weight."""
    history: list = []
    for index in range(study.trials):
        weights = suggest(study, history, index)
        history.append((weights, 1 - math.log(weights["rotation"] / best) ** 2))
    return history


def test_a_range_is_searched_within_its_bounds_and_repeats_exactly() -> None:
    history = search(RANGE, best=1.0)
    assert search(RANGE, best=1.0) == history
    weights = [tried["rotation"] for tried, _ in history]
    assert all(0.05 <= weight <= 5 for weight in weights)
    assert len(set(weights)) == len(weights)


def test_tpe_closes_in_on_the_best_weight() -> None:
    study = definition({"rotation": LogUniform(0.05, 5)}, trials=40)
    weights = [tried["rotation"] for tried, _ in search(study, best=1.0)]
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
    assert len({weights["rotation"] for weights in asked}) == 4
    history = [(weights, 0.5) for weights in asked]
    assert [suggest(study, history[:known], known) for known in range(4)] == asked


def test_lists_are_taken_in_order_all_combinations_once() -> None:
    study = definition({"rotation": Grid((0.5, 1.0)), "cpc": Grid((0.1, 1.0, 10.0))}, trials=6)
    points = [suggest(study, [], index) for index in range(6)]
    assert points[:2] == [{"rotation": 0.5, "cpc": 0.1}, {"rotation": 0.5, "cpc": 1.0}]
    assert len({tuple(point.values()) for point in points}) == 6


def test_a_range_and_a_list_are_searched_jointly() -> None:
    study = definition({"rotation": LogUniform(0.05, 5), "cpc": Grid((0.1, 10.0))})
    history: list = []
    for index in range(8):
        weights = suggest(study, history, index)
        assert weights["cpc"] in (0.1, 10.0)
        assert 0.05 <= weights["rotation"] <= 5
        history.append((weights, index / 10))


@pytest.mark.parametrize(
    ("history", "best"),
    [
        ([({"rotation": 2.0}, 0.9), ({"rotation": 0.5}, 0.9), ({"rotation": 1.0}, 0.8)], 0.5),
        ([({"rotation": 2.0}, 0.0), ({"rotation": 3.0}, 0.1)], 3.0),
    ],
)
def test_the_best_value_wins_and_ties_go_to_the_smaller_weight(history: History, best: float) -> None:
    assert choose(history) == {"rotation": best}

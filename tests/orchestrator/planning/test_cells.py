"""Keys: equal for what cannot change a result, different for what can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.planning.cells import Cell, lay_out, run_of
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification

WITH_BASELINE = ("classification", "rotation", "pixel-gaussian")
DIGITS = tuple("0123456789")


def specification(device: str = "cpu", **changes: object) -> Specification:
    return draft(Request(**{"holdouts": ("3", "8"), "seeds": 2, **changes})).complete(device, DIGITS)  # type: ignore[arg-type]


def by_label(asked: Specification, fingerprint: str = "data") -> dict[str, Cell]:
    return {cell.label: cell for cell in lay_out(asked, fingerprint).all()}


def test_labels_and_keys_are_one_to_one() -> None:
    cells = by_label(specification())
    assert len({cell.key for cell in cells.values()}) == len(cells)
    assert {"rotation/3/s1", "rotation/8/search0", "classification/8/s0"} <= cells.keys()


def test_a_sweep_that_grows_keeps_the_keys_that_it_had() -> None:
    small = by_label(specification(holdouts=("3",), seeds=1, methods=("classification",)))
    middle = by_label(specification(holdouts=("3",), seeds=1))
    large = by_label(specification())
    assert small.items() <= middle.items() <= large.items()


def test_a_method_that_trains_nothing_has_one_cell_a_holdout_and_changes_no_other_key() -> None:
    alone, beside = by_label(specification()), by_label(specification(methods=WITH_BASELINE))
    assert beside.keys() - alone.keys() == {"pixel-gaussian/3/s0", "pixel-gaussian/8/s0"}
    assert alone.items() <= beside.items()
    other = by_label(specification(methods=WITH_BASELINE, seeds=5))
    assert other["pixel-gaussian/3/s0"] == beside["pixel-gaussian/3/s0"]


def test_one_lambda_for_the_benchmark_ties_its_cells_to_the_held_out_classes() -> None:
    two = by_label(specification(select="benchmark"))
    one = by_label(specification(select="benchmark", holdouts=("3",)))
    assert two["classification/3/s0"] == one["classification/3/s0"]
    assert two["rotation/3/s0"].key != one["rotation/3/s0"].key


@pytest.mark.parametrize(
    "changes",
    [
        {"assignments": ("epochs=9",)},
        {"assignments": ("sweep_seed=1",)},
        {"cpus_per_worker": 2.0},
        {"workers": 2},
        {"device": "cuda"},
        {"groups": "/(p[0-9]+)_"},
    ],
)
def test_whatever_can_change_a_result_changes_every_key(changes: dict) -> None:
    before, after = by_label(specification()), by_label(specification(**changes))
    assert before.keys() == after.keys()
    assert not {cell.key for cell in before.values()} & {cell.key for cell in after.values()}


def test_data_changes_every_key_and_the_search_only_what_hangs_on_it() -> None:
    before = by_label(specification())
    other = by_label(specification(), "other data")
    assert not {cell.key for cell in before.values()} & {cell.key for cell in other.values()}
    longer = by_label(specification(lambda_trials=9))
    given = by_label(specification(aux_weight=("0.5",)))
    for changed in (longer, given):
        assert changed["classification/3/s0"] == before["classification/3/s0"]
        assert changed["rotation/3/s0"].key != before["rotation/3/s0"].key


def test_lists_are_tried_whole() -> None:
    cells = by_label(specification(assignments=("lambda.rotation=0.5,1,2",)))
    assert sum(cell.phase == "search" for cell in cells.values()) == 2 * 3


def test_a_cell_becomes_a_run_with_its_weights() -> None:
    asked = replace(specification(), sweep_seed=5)
    cells = by_label(asked)
    search = run_of(cells["rotation/3/search1"], asked, Hyperparameters({"rotation": 0.7}))
    final = run_of(cells["rotation/3/s1"], asked, Hyperparameters({"rotation": 0.7}))
    assert (search.search, search.seed, search.sweep_seed) == (True, 0, 5)
    assert (final.search, final.seed, final.aux_weights) == (False, 1, {"rotation": 0.7})


def test_the_order_in_which_classes_are_named_changes_nothing() -> None:
    for select in ("holdout", "benchmark"):
        one = by_label(specification(select=select))
        other = by_label(specification(select=select, holdouts=("8", "3")))
        assert one == other

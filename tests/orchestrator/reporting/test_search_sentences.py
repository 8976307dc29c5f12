"""What a report says of how hyperparameters were chosen, how sure that is, and what halving saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.planning.cells import SEARCH, Cell
from orchestrator.reporting import search_sentences
from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.search_sentences import how_chosen, protocol
from search_spaces import find_benchmark
from tests.hand_made_ledger import finish, search_weight, specification, write_sweep

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "lambda was chosen for each held-out class, by validation accuracy."),
        ({"select": "benchmark"}, "lambda was chosen for the benchmark, by validation accuracy."),
        ({"aux_weight": ("0.5",)}, "lambda was given."),
        ({"methods": ("classification",)}, ""),
        (
            {"search": ("dropout=0..0.5",), "search_seeds": 3},
            "lambda and dropout were chosen for each held-out class and method, by validation accuracy, the "
            "mean of 3 seeds.",
        ),
        (
            {"search": ("dropout=0..0.5",), "methods": ("classification",)},
            "dropout was chosen for each held-out class and method, by validation accuracy.",
        ),
        (
            {"aux_weight": ("0.5",), "search": ("dropout=0,0.3",)},
            "lambda was given. dropout was chosen for each held-out class and method, by validation "
            "accuracy.",
        ),
        (
            {"holdouts": ("none",)},
            "lambda was chosen for the benchmark, by validation accuracy.",
        ),
        (
            {"choose": "smoothed"},
            "lambda was chosen for each held-out class, by validation accuracy (the best mean with its "
            "neighbours).",
        ),
    ],
)
def test_how_it_was_chosen_is_said(changes: dict, words: str) -> None:
    assert how_chosen(specification(**changes)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["departs from the paper's (one lambda for the benchmark, 0.5); --protocol paper follows it"]),
        (
            {"select": "benchmark"},
            ["agrees with the paper's (one lambda", "saw each held-out class as a known"],
        ),
        (
            {"protocol": "paper"},
            [
                "was chosen as the paper did, where it says how (one lambda",
                "inferred is the space, and that",
                "as",
            ],
        ),
        ({"select": "benchmark", "search_seeds": 3}, ["departs from the paper's (one lambda"]),
        ({"select": "benchmark", "halving": 2}, ["departs from the paper's (one lambda"]),
        ({"aux_weight": ("0.5",)}, []),
        ({"methods": ("classification",)}, []),
    ],
)
def test_the_protocol_is_set_beside_the_paper_s(changes: dict, words: list[str]) -> None:
    asked = {"benchmark": "cifar10", "holdouts": ("cat",), "assignments": (), **changes}
    said = " ".join(protocol(specification(CLASSES, **asked), find_benchmark("cifar10")))
    assert bool(said) == bool(words)
    for each in words:
        assert each in said


def test_imagenet_s_tasks_are_chosen_each_in_the_paper_s_way() -> None:
    benchmark = find_benchmark("imagenet-dog")
    assert benchmark.classes is not None
    wanted = specification(
        benchmark.classes,
        benchmark="imagenet-dog",
        holdouts=benchmark.classes[:2],
        methods=("rotation", "cpc"),
        protocol="paper",
        assignments=(),
    )
    assert {method: wanted.lambda_of(method) for method in wanted.methods} == {
        "rotation": "holdout",
        "cpc": "benchmark",
    }
    assert {task: str(space) for task, space in wanted.spaces.items()} == {
        "rotation": "0.5,1",
        "cpc": "0.1,1,10,20,50",
    }
    said = protocol(wanted, benchmark)
    assert len(said) == 3
    assert '"a mix of 0.5 and 1.0"' in said[0]


def searched(folder: Path, value: Callable[[Cell], float], **changes: object) -> Results:
    """Return the results of a sweep whose search cells have these values."""
    wanted = specification(holdouts=("3",), **changes)
    ledger, cells = write_sweep(folder, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, values={"value": value(cell)} if cell.phase == SEARCH else None)
    return collect(ledger)


def test_without_search_seeds_the_noise_is_said_to_be_unknown(tmp_path: Path) -> None:
    (said,) = search_sentences.certainty(searched(tmp_path, lambda cell: 0.5))
    assert "tried with one seed, so how much of their differences is noise is not known" in said


@pytest.mark.parametrize(
    ("gap", "words"),
    [(0.2, "stands out from its neighbours in the one study"), (0.01, "from a neighbour in 1 of 1 study")],
)
def test_search_seeds_tell_whether_the_choice_stands_out(tmp_path: Path, gap: float, words: str) -> None:
    def value(cell: Cell) -> float:
        assert cell.search_index is not None
        return 0.5 + gap * (cell.search_index == 1) + 0.02 * cell.seed

    (said,) = search_sentences.certainty(searched(tmp_path, value, search_seeds=3))
    assert words in said


def test_what_halving_saved_is_counted(tmp_path: Path) -> None:
    wanted = specification(holdouts=("3",), halving=2, assignments=("epochs=4", "ap_window=2"))
    ledger, cells = write_sweep(tmp_path, wanted)
    at_rungs = {0: (0.1,), 1: (0.6, 0.7), 2: (0.5, 0.8, 0.9), 3: (0.2,)}
    for cell in cells.all():
        if cell.search_index is None:
            finish(
                ledger, wanted, cell, weights=None if cell.method == "classification" else {"rotation": 0.4}
            )
            continue
        values, rungs = at_rungs[cell.search_index], (1, 2, 4)
        reached = rungs[len(values) - 1]
        stated = {"rungs": {str(r): v for r, v in zip(rungs, values[:-1], strict=False)}}
        if reached < 4:
            stated["stopped_at"] = reached
        found = {"value": values[-1], "epochs": reached}
        finish(ledger, wanted, cell, values=found, stated=stated, weights={"rotation": search_weight(cell)})
    results = collect(ledger)
    said = " ".join(search_sentences.halving(results))
    assert "trained 8 of 16 epochs (50%)" in said
    assert re.search(r"saved about \S+ CPU-hours", said)
    assert "The best trial at a rung was the best at the next one, too, in 0 of 1." in said
    (selection,) = results.selections
    assert (selection.stopped, selection.complete) == ({0: 1, 1: 2, 3: 1}, True)


HALVED = {"holdouts": ("3",), "halving": 2, "methods": ("rotation",), "assignments": ("epochs=4",)}


def test_halving_says_nothing_of_a_study_in_which_all_diverge_at_once(tmp_path: Path) -> None:
    wanted = specification(**HALVED)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.phase == SEARCH:
            finish(ledger, wanted, cell, values={"value": 0.0, "diverged": True, "epochs": 0})
    results = collect(ledger)
    assert search_sentences.halving(results) == []
    (selection,) = results.selections
    assert (selection.diverged, selection.stopped) == ({0, 1, 2, 3}, {})


def test_a_trial_of_which_one_seed_diverged_stops_as_a_whole(tmp_path: Path) -> None:
    wanted = specification(search_seeds=2, **HALVED)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.search_index == 0 and cell.seed == 0:
            finish(ledger, wanted, cell, values={"value": 0.0, "diverged": True, "epochs": 0})
        elif cell.search_index == 0:
            values = {"value": 0.5, "epochs": 1}
            finish(ledger, wanted, cell, values=values, stated={"rungs": {}, "stopped_at": 1})
    (selection,) = collect(ledger).selections
    assert (selection.diverged, selection.stopped) == (set(), {0: 1})


def test_neighbours_that_stopped_at_a_rung_tell_nothing_of_certainty(tmp_path: Path) -> None:
    asked = {"halving": 2, "assignments": ("epochs=4",)}
    assert search_sentences.certainty(searched(tmp_path, lambda cell: 0.5, **asked)) == []


def test_values_are_called_values_where_no_lambda_is_searched(tmp_path: Path) -> None:
    asked = {"methods": ("classification",), "search": ("learning_rate=0.01..0.3",)}
    wanted = specification(holdouts=("3",), **asked)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        rate = 0.02 * (1 + (cell.search_index or 0))
        finish(ledger, wanted, cell, weights={}, stated={"fields": {"learning_rate": rate}})
    (said,) = search_sentences.certainty(collect(ledger))
    assert said.startswith("Each value was tried with one seed")

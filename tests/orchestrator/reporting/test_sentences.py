"""A report's sentences: missing cells, problems in the choice of lambda, and departures from the paper."""

from __future__ import annotations

from pathlib import Path

from orchestrator.planning.cells import FINAL, SEARCH
from orchestrator.reporting.paper import pair_with_paper
from orchestrator.reporting.results import collect
from orchestrator.reporting.sentences import comparisons, image_sets, missing, recipe_departures, selection
from search_spaces import find_benchmark
from tests.hand_made_ledger import finish, finish_all, opened, specification, write_sweep


def test_missing_cells_are_listed_by_state_with_the_command(tmp_path: Path) -> None:
    wanted = specification(seeds=1, holdouts=("3",))
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.search_index == 3:
            for _ in range(2):
                ledger.begin(cell.key, {"opened": opened(cell, wanted, tuple("0123456789"))})
        elif cell.phase == SEARCH:
            finish(ledger, wanted, cell)
    assert missing(collect(ledger), "go") == (
        "Missing: 3 cells; 1 begun without a result (failed, or still running): rotation/3/search3 "
        "(2 attempts); 1 blocked by a search that is not complete: rotation/3/s0; 1 not begun: "
        "classification/3/s0. Go on with: go"
    )
    finish_all(ledger, wanted, cells)
    assert missing(collect(ledger), "go") == "Missing: nothing; all 6 cells are done."
    one = specification(seeds=1, holdouts=("3",), methods=("classification",))
    ledger, cells = write_sweep(tmp_path, one, name="one")
    finish_all(ledger, one, cells)
    assert missing(collect(ledger), "go") == "Missing: nothing; the one cell is done."


def test_another_lambda_than_the_chosen_one_and_divergence_are_reported(tmp_path: Path) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        other = cell.phase == FINAL and cell.holdout == "8" and cell.method == "rotation"
        diverged = {"value": 0.0, "diverged": True} if cell.search_index == 0 else None
        finish(ledger, wanted, cell, weights={"rotation": 0.2} if other else None, values=diverged)
    warning, diverged_sentence = selection(collect(ledger))
    assert warning.startswith("WARNING")
    assert (
        "final cells of rotation/8 were trained with rotation 0.2, its search chooses rotation 0.4" in warning
    )
    assert "rotation/3" not in warning
    assert diverged_sentence.startswith("Diverged: 2 search cells;")


def test_a_given_lambda_that_was_not_used_is_reported(tmp_path: Path) -> None:
    wanted = specification(seeds=1, holdouts=("3",), aux_weight=("0.5",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    (warning,) = selection(collect(ledger))
    assert "rotation/3/s0 was trained with rotation 0.4, given was rotation 0.5" in warning


def test_a_smaller_network_is_compared_with_a_warning(tmp_path: Path) -> None:
    benchmark = find_benchmark("cifar10")
    assert benchmark.classes is not None
    wanted = specification(
        benchmark.classes, benchmark="cifar10", seeds=1, assignments=("depth=16", "epochs=5")
    )
    ledger, cells = write_sweep(tmp_path, wanted, classes=benchmark.classes)
    for cell in cells.all():
        if cell.phase == FINAL:
            finish(ledger, wanted, cell, classes=benchmark.classes)
    results = collect(ledger)
    pairs, _ = pair_with_paper(results, benchmark)
    assert pairs
    (warning,) = recipe_departures(results, benchmark)
    assert warning.startswith("WARNING")
    assert "depth 16 (paper: 28); epochs 5 (paper: 200)" in warning


def test_each_other_method_is_compared_with_classification_by_metric(tmp_path: Path) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    found = comparisons(collect(ledger))
    assert [sentence.partition(": +5.00 points")[0] for sentence in found] == [
        "rotation, AP-MSP",
        "rotation, AP-ODIN",
        "rotation, accuracy",
    ]


def test_a_method_that_trains_nothing_is_set_against_classification_s_first_ap(tmp_path: Path) -> None:
    wanted = specification(methods=("classification", "pixel-gaussian"))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    (sentence,) = comparisons(collect(ledger))
    # 0.20 against 0.30, 0.31 and 0.32.
    assert sentence.startswith("pixel-gaussian, AP (beside classification's AP-MSP): -11.00 points")


def test_image_sets_that_cells_lack_or_saw_otherwise_are_named(tmp_path: Path) -> None:
    wanted = specification(methods=("classification",), seeds=2)
    ledger, cells = write_sweep(tmp_path, wanted)
    for number, cell in enumerate(cells.all()):
        finish(ledger, wanted, cell, values={"ood/mine/skew": 0.5} if number else None)
        about = {**ledger.read_cell(cell.key), "image_sets": [{"name": "mine", "digest": str(number // 2)}]}
        ledger.begin(cell.key, about)
    lacking, warning = image_sets(collect(ledger), "score {}".format)
    assert lacking.startswith("Image set mine: no scores of it by 1 of 4 finished final cells")
    assert lacking.endswith("Add them with: score mine")
    assert warning == "WARNING: the image set mine was not the same images in all cells."

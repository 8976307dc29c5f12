"""The check of access logs: what it accepts and what it reports."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.reporting.leak_check import check_leaks

SEARCHING = Cell("k1", SEARCH, "cat", "rotation", 0, 2)
TRAINING = Cell("k2", FINAL, "cat", "rotation", 1)


def entry(split: str, *classes: str) -> dict[str, Any]:
    return {"split": split, "classes": list(classes), "count": 5, "digest": "d"}


def check(cell: Cell, *opened: Any, done: bool = True) -> tuple[bool, str]:
    verdict = check_leaks([cell], {cell.key: {"opened": list(opened)}}, {cell.key} if done else set())
    return verdict.holds, verdict.sentence


def test_a_search_may_open_training_images_of_kept_classes() -> None:
    holds, sentence = check(SEARCHING, entry("train", "dog", "frog"))
    assert holds
    assert "the one search cell did not open a test image or its held-out class" in sentence


def test_nothing_is_said_of_a_held_out_class_without_one() -> None:
    """One cell and several are spoken of rightly, with and without a held-out class."""
    none = [Cell(f"n{i}", FINAL, "none", "rotation", i) for i in range(2)]
    searches = [Cell(f"s{i}", SEARCH, "none", "rotation", 0, i) for i in range(2)]
    files = {cell.key: {"opened": [entry("train", "dog")]} for cell in [*none, *searches, TRAINING]}
    assert check_leaks(none, files, ()).sentence == "Leak firewall: holds; no search cell ran."
    assert check_leaks([*searches, *none], files, ()).sentence == (
        "Leak firewall: holds; none of the 2 search cells opened a test image."
    )
    with_holdout = check_leaks([*none, TRAINING], files, ()).sentence
    assert with_holdout.endswith(
        "no search cell ran, and the one final cell did not train on its held-out class."
    )


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        ([entry("train", "dog"), entry("test", "dog")], "opened the split 'test'"),
        ([entry("train", "dog"), entry("validation", "dog")], "opened the split 'validation'"),
        ([entry("train", "dog", "cat")], "opened its held-out class 'cat'"),
        ([entry("train", "dog"), entry("test", "cat")], "opened its held-out class 'cat'"),
        ([], "no readable log"),
        ([{"split": "train"}], "no readable log"),
        ([{"split": "train", "classes": "cat"}], "no readable log"),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_a_search_that_opened_more_is_a_breach_whether_done_or_not(
    opened: list, words: str, done: bool
) -> None:
    holds, sentence = check(SEARCHING, *opened, done=done)
    assert not holds
    assert sentence.startswith("LEAK FIREWALL BROKEN")
    assert "rotation/cat/search2" in sentence
    assert words in sentence


def test_a_final_cell_scores_the_held_out_class_but_does_not_train_on_it() -> None:
    assert check(TRAINING, entry("train", "dog"), entry("test", "dog", "cat"))[0]
    holds, sentence = check(TRAINING, entry("train", "dog", "cat"), entry("test", "dog", "cat"))
    assert not holds
    assert "rotation/cat/s1 opened its held-out class 'cat'" in sentence


def test_image_sets_are_for_final_cells_alone() -> None:
    opened = [entry("train", "dog"), entry("ood/mine", "mine")]
    assert check(TRAINING, *opened)[0]
    holds, sentence = check(SEARCHING, *opened)
    assert not holds
    assert "opened the split 'ood/mine'" in sentence


def test_a_done_cell_without_a_log_is_a_breach_and_one_that_has_not_begun_is_not() -> None:
    assert not check_leaks([SEARCHING], {}, {"k1"}).holds
    untouched = check_leaks([SEARCHING, TRAINING], {}, set())
    assert untouched.holds
    assert untouched.sentence == "Leak firewall: no cell has opened anything yet."


def test_many_breaches_are_counted() -> None:
    cells = [Cell(f"k{i}", SEARCH, "cat", "rotation", 0, i) for i in range(9)]
    cell_files = {cell.key: {"opened": [entry("test", "dog")]} for cell in cells}
    verdict = check_leaks(cells, cell_files, set())
    assert len(verdict.breaches) == 9
    assert verdict.sentence.endswith("and 4 more.")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"opened": []}, ""),
        ({"opened": [entry("train", "dog"), entry("test", "dog", "cat")]}, ""),
        ({"opened": [entry("train", "dog", "cat")]}, "scored by knn opened its held-out class 'cat'"),
        ({"opened": [entry("validation", "dog")]}, "scored by knn opened the split 'validation'"),
        ({}, "no readable log of what its detector knn opened"),
        ({"opened": [{"split": "train"}]}, "no readable log of what its detector knn opened"),
    ],
)
def test_a_later_detector_may_open_what_its_cell_may(record: dict, words: str) -> None:
    files = {"k2": {"opened": [entry("train", "dog"), entry("test", "dog", "cat")]}}
    verdict = check_leaks([TRAINING], files, {"k2"}, {"k2": {"knn": record}})
    assert verdict.holds == (not words)
    assert words in verdict.sentence

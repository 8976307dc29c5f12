"""The check over cell.json: what it lets pass and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.reporting.leak_check import check_firewall

SEARCHING = Cell("k1", SEARCH, "cat", "rotation", 0, 2)
TRAINING = Cell("k2", FINAL, "cat", "rotation", 1)


def entry(split: str, *classes: str) -> dict[str, Any]:
    return {"split": split, "classes": list(classes), "count": 5, "digest": "d"}


def check(cell: Cell, *opened: Any, done: bool = True) -> tuple[bool, str]:
    verdict = check_firewall([cell], {cell.key: {"opened": list(opened)}}, {cell.key} if done else set())
    return verdict.holds, verdict.sentence


def test_training_images_of_kept_classes_are_what_a_search_may_open() -> None:
    holds, sentence = check(SEARCHING, entry("train", "dog", "frog"))
    assert holds
    assert "none of the 1 search cells opened a test image" in sentence


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        ([entry("train", "dog"), entry("test", "dog")], "opened the split 'test'"),
        ([entry("train", "dog"), entry("validation", "dog")], "opened the split 'validation'"),
        ([entry("train", "dog", "cat")], "opened its held-out class 'cat'"),
        ([entry("train", "dog"), entry("test", "cat")], "opened its held-out class 'cat'"),
        ([], "no readable account"),
        ([{"split": "train"}], "no readable account"),
        ([{"split": "train", "classes": "cat"}], "no readable account"),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_a_search_that_opened_more_breaks_it_whether_done_or_not(
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


def test_a_done_cell_without_an_account_breaks_it_and_one_not_begun_does_not() -> None:
    assert not check_firewall([SEARCHING], {}, {"k1"}).holds
    untouched = check_firewall([SEARCHING, TRAINING], {}, set())
    assert untouched.holds
    assert untouched.sentence == "Leak firewall: no cell has opened anything yet."


def test_many_breaches_are_counted() -> None:
    cells = [Cell(f"k{i}", SEARCH, "cat", "rotation", 0, i) for i in range(9)]
    accounts = {cell.key: {"opened": [entry("test", "dog")]} for cell in cells}
    verdict = check_firewall(cells, accounts, set())
    assert len(verdict.breaches) == 9
    assert verdict.sentence.endswith("and 4 more.")

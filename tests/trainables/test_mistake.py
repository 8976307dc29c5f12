"""Errors as one line of a sentence."""

from __future__ import annotations

import pytest

from trainables.mistake import closest, counted, one_line, unknown


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("no route.\nmore"), "no route"),
        (ValueError("\n  The path is empty.  \n"), "The path is empty"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError(" \n"), "ValueError"),
        (ValueError("x" * 400), "x" * 300),
    ],
)
def test_an_error_becomes_one_line_without_its_full_stop(error: BaseException, line: str) -> None:
    assert one_line(error) == line


def test_the_line_is_cut_at_the_limit() -> None:
    assert one_line(ValueError("abcdef"), limit=4) == "abcd"


def test_a_number_goes_with_its_noun() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CIFAR10", "cifar10"),
        ("cifar-10", "cifar10"),
        ("lr", "learning_rate"),
        ("LR", "learning_rate"),
        ("wd", None),
        ("learning-rate", "learning_rate"),
        ("nonsense", None),
    ],
)
def test_the_closest_name_is_found_whatever_its_case_or_by_a_synonym(written: str, meant: str | None) -> None:
    assert closest(written, ["cifar10", "stl10", "learning_rate"]) == meant


def test_names_with_commas_are_told_apart_only_if_each_is_near_one() -> None:
    assert "separate with spaces, without commas: cat dog." in str(
        unknown("class", "cat,DOG", ["cat", "dog"])
    )
    assert str(unknown("class", "cat,tree", ["cat", "dog"])) == (
        "There is no class 'cat,tree'; valid: cat, dog."
    )

"""Errors as one line of a sentence."""

from __future__ import annotations

import pytest

from trainables.mistake import counted, one_line


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

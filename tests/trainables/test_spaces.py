"""Spaces and their text, which is part of a cell's key and must read back exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainables.mistake import Mistake
from trainables.spaces import Grid, LogUniform, Space, parse_space

WEIGHTS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
RANGES = (
    st.tuples(WEIGHTS, WEIGHTS).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: LogUniform(*ends))
)
LISTS = st.lists(WEIGHTS, min_size=1, unique=True).map(tuple).map(Grid)


@given(st.one_of(RANGES, LISTS))
@example(LogUniform(0.12345678, 5))
@example(LogUniform(1.0, math.nextafter(1.0, 2.0)))
@example(Grid((1.0000001, 1.0000002)))
@example(Grid((5e-324, 1.7976931348623157e308)))
def test_a_space_reads_back_from_its_text(space: Space) -> None:
    assert parse_space(str(space)) == space


@given(st.integers(1, 999_999), st.integers(-12, 12))
def test_numbers_of_up_to_six_digits_keep_their_short_text(digits: int, exponent: int) -> None:
    number = float(f"{digits}e{exponent}")
    assert str(Grid((number,))) == f"{number:g}"


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (LogUniform(0.05, 5), "0.05..5"),
        (LogUniform(0.12345678, 5), "0.12345678..5"),
        (LogUniform(1e-05, 123456), "1e-05..123456"),
        (Grid((0.1, 1.0, 10.0, 20.0, 50.0)), "0.1,1,10,20,50"),
        (Grid((1.0000001, 1.0000002)), "1.0000001,1.0000002"),
        (Grid((1234567, 2e6)), "1234567.0,2e+06"),
    ],
)
def test_the_text_is_as_short_as_it_can_be(space: Space, text: str) -> None:
    assert str(space) == text


@pytest.mark.parametrize(
    "text",
    ["", "a,b", "1,,2", "1,1", "1,1.0", "0,1", "-1,1", "nan", "inf", "5..0.05", "1..1", "1..2..3", ".."],
)
def test_other_texts_are_mistakes(text: str) -> None:
    with pytest.raises(Mistake, match="is no space for lambda"):
        parse_space(text)

"""Valid files, changed: bytes flipped, cut, inserted and spliced, and values of JSON exchanged for others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Edit = Callable[[bytes], bytes]

PART = st.floats(0, 1, allow_nan=False)
"""A place, as a share of the way from the beginning to the end."""

ODD = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        2**31,
        2**63,
        -(2**64),
        10**400,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *("", "x", "0", "../..", "'; --", "\x00", "\ud800", "9" * 5000, "x" * 10_000, "\x1b[31m"),
    *([], [[]], [None], ["x"], [1, "x"], {}, {"x": None}, {"": {}}),
]
"""Values of JSON that belong nowhere, or hardly anywhere."""

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


@dataclass(frozen=True)
class Flip:
    """Exchanges a bit."""

    part: float
    bit: int

    def __call__(self, data: bytes) -> bytes:
        changed = bytearray(data)
        if changed:
            changed[min(len(data) - 1, int(self.part * len(data)))] ^= 1 << self.bit
        return bytes(changed)


@dataclass(frozen=True)
class Cut:
    """Leaves out what stands between two places."""

    start: float
    stop: float

    def __call__(self, data: bytes) -> bytes:
        first, last = sorted(int(part * len(data)) for part in (self.start, self.stop))
        return data[:first] + data[last:]


@dataclass(frozen=True)
class Insert:
    """Puts bytes in at a place, or over what is there."""

    part: float
    what: bytes
    over: bool

    def __call__(self, data: bytes) -> bytes:
        place = int(self.part * len(data))
        return data[:place] + self.what + data[place + len(self.what) * self.over :]


@dataclass(frozen=True)
class Splice:
    """Copies a stretch of the file to another place of it."""

    start: float
    length: int
    to: float

    def __call__(self, data: bytes) -> bytes:
        first, place = int(self.start * len(data)), int(self.to * len(data))
        return data[:place] + data[first : first + self.length] + data[place:]


@dataclass(frozen=True)
class Exchange:
    """Exchanges a value of a JSON file, at any depth, for another, or leaves it out."""

    part: float
    value: Any
    leave_out: bool
    again: Callable[[Any], Any] = lambda values: values
    """What is done to values of which one was exchanged, such as a new digest."""

    def __call__(self, data: bytes) -> bytes:
        try:
            values = json.loads(data)
        except ValueError:
            return data
        places = list(_places(values))
        if not places:
            return json.dumps(self.value).encode()
        holder, name = places[min(len(places) - 1, int(self.part * len(places)))]
        if self.leave_out:
            del holder[name]
            return json.dumps(values).encode()
        holder[name] = copy.deepcopy(self.value)
        return json.dumps(self.again(values)).encode()


def _places(values: Any) -> Any:
    """Yield every object or list with every name or number in it."""
    inner = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for name, value in list(inner):
        yield values, name
        yield from _places(value)


def byte_edits() -> st.SearchStrategy[list[Edit]]:
    """Return a strategy of one to four changes of bytes."""
    width = st.sampled_from([1, 2, 4, 8])
    number = st.builds(
        lambda value, size, order: (value % 256**size).to_bytes(size, order),  # type: ignore[arg-type]
        st.sampled_from(NUMBERS),
        width,
        st.sampled_from(["little", "big"]),
    )
    one = st.one_of(
        st.builds(Flip, PART, st.integers(0, 7)),
        st.builds(Cut, PART, st.one_of(PART, st.just(1.0))),
        st.builds(Insert, PART, st.one_of(number, st.binary(max_size=64)), st.booleans()),
        st.builds(Splice, PART, st.integers(1, 2000), PART),
    )
    return st.lists(one, min_size=1, max_size=4)


def json_edits(again: Callable[[Any], Any] = lambda values: values) -> st.SearchStrategy[list[Edit]]:
    """Return a strategy of one or two changes of a JSON file's values."""
    one = st.builds(Exchange, PART, st.sampled_from(ODD), st.booleans(), st.just(again))
    return st.lists(one, min_size=1, max_size=2)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Return the bytes after all of the changes."""
    for edit in edits:
        data = edit(data)
    return data

"""JSON values become the types that they must have, or a sentence that names the place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.ledger.typed_json import Unexpected, typed


@dataclass(frozen=True)
class Inner:
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int
    inner: tuple[Inner, ...]
    flag: bool = False
    by_name: dict[str, int] = field(default_factory=dict)
    maybe: str | None = None


def test_what_fits_is_read_at_every_depth() -> None:
    values = {"count": 3, "inner": [{"name": "a", "share": 1}, {"name": "b"}], "by_name": {"x": 1}}
    found = typed(Outer, values, "")
    assert found == Outer(3, (Inner("a", 1.0), Inner("b")), by_name={"x": 1})
    assert isinstance(found.inner[0].share, float)
    assert typed(Outer, {"count": 0, "inner": [], "maybe": "m", "flag": True}, "").maybe == "m"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": "3"}, 'count is "3", where a whole number belongs'),
        ({"count": True}, "count is true, where a whole number belongs"),
        ({"count": 3.0}, "count is 3.0, where a whole number belongs"),
        ({"count": None}, "count is null, where a whole number belongs"),
        ({"flag": 1}, "flag is 1, where true or false belongs"),
        ({"inner": {}}, "inner is {}, where a list belongs"),
        ({"inner": "ab"}, 'inner is "ab", where a list belongs'),
        ({"inner": [{"name": "a"}, 7]}, "inner[1] is 7, where an object belongs"),
        ({"inner": [{"share": 1.0}]}, "inner[0].name is null, where text belongs"),
        ({"inner": [{"name": "a", "share": float("nan")}]}, "inner[0].share is NaN, where a finite number"),
        ({"inner": [{"name": "a", "share": 10**400}]}, "inner[0].share is 1000000"),
        ({"inner": [{"name": "a", "share": 10**5000}]}, "inner[0].share is a very large number"),
        ({"inner": [{"name": "a", "share": False}]}, "inner[0].share is false, where a finite number"),
        ({"by_name": {"x": 1.5}}, "by_name.x is 1.5, where a whole number belongs"),
        ({"by_name": []}, "by_name is [], where an object belongs"),
        ({"maybe": 7}, "maybe is 7, where text or null belongs"),
        ({"later": 7}, "later is 7, where nothing that this version knows belongs"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Unexpected) as error:
        typed(Outer, {"count": 3, "inner": [], **change}, "")
    assert said in str(error.value)
    assert len(str(error.value)) < 160

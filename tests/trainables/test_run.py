"""Names of methods, and what they mean."""

from __future__ import annotations

import pytest

from trainables.mistake import Mistake
from trainables.run import Method, check_method, parse_method


def test_methods_are_parts_joined_by_plus() -> None:
    assert parse_method("classification").auxiliary == ()
    assert parse_method("rotation+cpc").auxiliary == ("rotation", "cpc")
    assert parse_method("cpc+rotation").auxiliary == ("cpc", "rotation")
    masked = parse_method("rotation+center-mask")
    assert (masked.auxiliary, masked.center_mask) == (("rotation",), True)


@pytest.mark.parametrize(
    "name", ["rotatoin", "rotation+rotation", "classification+rotation", "", "rotation+"]
)
def test_other_names_are_mistakes(name: str) -> None:
    with pytest.raises(Mistake):
        check_method(name)


def test_tasks_that_are_not_known_here_have_weights_all_the_same() -> None:
    assert parse_method("classification+somebody-s").auxiliary == ("somebody-s",)


def test_methods_that_train_nothing_stand_alone() -> None:
    for name in ("pixel-gaussian", "edge-energy"):
        check_method(name)
        assert parse_method(name) == Method(name, (), center_mask=False, trains=False)
    assert parse_method("classification").trains
    with pytest.raises(Mistake, match="trains nothing: name edge-energy by itself"):
        check_method("rotation+edge-energy")

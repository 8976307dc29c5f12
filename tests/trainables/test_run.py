"""Methods and recipes as names."""

from __future__ import annotations

import pytest

from trainables.mistake import Mistake
from trainables.run import Recipe, parse_method, with_fidelity


def test_methods_are_parts_joined_by_plus() -> None:
    assert parse_method("classification").auxiliary == ()
    assert parse_method("cpc+rotation").auxiliary == ("rotation", "cpc")
    masked = parse_method("rotation+center-mask")
    assert (masked.auxiliary, masked.center_mask) == (("rotation",), True)


@pytest.mark.parametrize(
    "name", ["rotatoin", "rotation+rotation", "classification+rotation", "", "rotation+"]
)
def test_other_names_are_mistakes(name: str) -> None:
    with pytest.raises(Mistake):
        parse_method(name)


def test_reference_fidelity_sets_every_switch_that_differs_and_only_those() -> None:
    reference = with_fidelity(Recipe(), "reference")
    changed = {name for name, value in vars(reference).items() if value != getattr(Recipe(), name)}
    assert changed == {
        "fidelity",
        "batch_norm_statistics",
        "stem",
        "rotation_set",
        "epoch_length",
        "odin_units",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"depth": 12},
        {"depth": 16, "groups": 4},
        {"image_size": 64, "stored_size": 32},
        {"batch_size": 96, "micro_batch": 64},
    ],
)
def test_fields_that_do_not_fit_together_are_mistakes(fields: dict) -> None:
    with pytest.raises(Mistake):
        Recipe(**fields)

"""What a sweep may grow into, as its ledger and the command line say."""

from __future__ import annotations

import pytest

from orchestrator.planning.sweep import check_studies_stay
from tests.hand_made_ledger import specification
from trainables.mistake import Mistake

SHORT = {"search": ("decay=weights,all",), "assignments": ("lambda.rotation=0.1..1",)}


def test_further_methods_may_not_change_how_many_trials_studies_have() -> None:
    old = specification(methods=("rotation",), **SHORT)
    grown = specification(methods=("rotation", "classification"), **SHORT)
    with pytest.raises(Mistake, match="has studies of 4 trials, and would have 2 with the further methods"):
        check_studies_stay(grown, old, "mine")
    check_studies_stay(old, old, "mine")
    long = {**SHORT, "search": ("decay=weights,all", "flip=true,false")}
    check_studies_stay(
        specification(methods=("rotation", "classification"), **long),
        specification(methods=("rotation",), **long),
        "mine",
    )

"""The command line of a sweep as a request: options that are repeated add up."""

from __future__ import annotations

import argparse
from importlib import import_module

import pytest

from orchestrator.cli.sweep_options import read_request
from orchestrator.planning.request import Request


@pytest.mark.parametrize(
    ("option", "field", "words"),
    [
        ("--holdouts", "holdouts", ("3", "8")),
        ("--methods", "methods", ("classification", "rotation")),
        ("--set", "assignments", ("epochs=3", "depth=10")),
        ("--search", "search", ("dropout=0,0.1", "momentum=0,0.9")),
        ("--detectors", "detectors", ("msp", "knn")),
        ("--aux-weight", "aux_weight", ("rotation=0.5", "cpc=1")),
        ("--ood", "ood", ("a=/images", "b=/others")),
        ("--plugin", "plugins", ("/one.py", "/other.py")),
    ],
)
def test_a_repeated_list_adds_up(option: str, field: str, words: tuple[str, str]) -> None:
    expected = Request(**{field: words})  # type: ignore[arg-type]
    assert read_request([option, words[0], option, words[1]]) == expected
    assert read_request([option, *words]) == expected


@pytest.mark.parametrize("command", ["sweep", "baseline", "score"])
def test_no_list_of_any_command_keeps_its_last_occurrence_alone(command: str) -> None:
    parser = import_module(f"orchestrator.cli.{command}_options")._parser()
    lists = [action for action in parser._actions if action.nargs == argparse.ONE_OR_MORE]
    assert len(lists) >= 3
    assert {type(action).__name__ for action in lists} == {"_ExtendAction"}

"""The command line of `python -m orchestrator.score`."""

from __future__ import annotations

import argparse

from orchestrator.cli.parser import Parser, add_sweep_name, wide
from orchestrator.cli.sweep_options import add_image_sets, add_records, values_of
from orchestrator.planning.request import DEFAULT_DATA, Request
from trainables.detectors import DETECTORS
from trainables.mistake import Mistake


def read_request(words: list[str] | None = None) -> Request:
    """Return the sweep's name, what to add, and the places; raise Mistake for words that are not valid."""
    given = vars(_parser().parse_args(words))
    if "detectors" not in given and "ood" not in given:
        raise Mistake("There is nothing to add: name detectors with --detectors, or image sets with --ood.")
    return Request(**{"detectors": (), **values_of(given)})


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.score",
        usage="python -m orchestrator.score NAME [--detectors D ...] [--ood SET=PATH ...] [options]",
        description="Add detectors and image sets to the finished final cells of a sweep, to its report and\n"
        "to MLflow's records, without training. The same command again scores only what is missing.",
        formatter_class=wide,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _what(parser.add_argument_group("what is scored"))
    _where(parser.add_argument_group("where"))
    return parser


def _what(group: argparse._ArgumentGroup) -> None:
    add_sweep_name(group)
    group.add_argument(
        "--detectors",
        nargs="+",
        action="extend",
        metavar="D",
        help=f"scores of the test images, out of {', '.join(DETECTORS.names)}, or a plug-in's",
    )
    add_image_sets(group)
    group.add_argument(
        "--plugin",
        dest="plugins",
        nargs="+",
        action="extend",
        metavar="FILE.py",
        help="files with your own detectors (docs/extending.md)",
    )


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--data",
        metavar="PATH",
        help=f"the sweep's data (default: where it was when the sweep ran, else {DEFAULT_DATA})",
    )
    add("--cache", metavar="DIR", help="folder for prepared data (default: the user's cache folder)")
    add_records(group)

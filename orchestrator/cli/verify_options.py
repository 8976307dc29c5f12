"""The command line of `python -m orchestrator.verify`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from orchestrator.cli.parser import Parser, add_sweep_name
from orchestrator.planning.request import Request
from trainables.mistake import Mistake


@dataclass(frozen=True)
class VerifyRequest:
    """Which sweep is looked at, and what is done about what is found."""

    name: str
    places: Request
    """Where the ledger and MLflow's records are."""
    tracking: bool
    repair: bool
    as_json: bool


def read_request(words: list[str] | None = None) -> VerifyRequest:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    given = _parser().parse_args(words)
    if given.no_tracking and given.tracking_uri:
        raise Mistake("--tracking-uri has no use with --no-tracking: leave one of them out.")
    places = Request(storage=given.storage, tracking_uri=given.tracking_uri)
    return VerifyRequest(given.name, places, not given.no_tracking, given.repair, given.json)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.verify",
        description="Check a sweep: that every cell is there once and as it was written, that its numbers "
        "follow from its scores, that the leak firewall held, and that MLflow agrees. Nothing is written "
        "without --repair.",
        allow_abbrev=False,
    )
    default = Request().storage
    add = parser.add_argument
    add_sweep_name(parser)
    add("--storage", metavar="URI", default=default, help=f"where the sweep is (default: {default})")
    add("--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)")
    add("--no-tracking", action="store_true", help="leave MLflow out")
    add(
        "--repair",
        action="store_true",
        help="move aside what is damaged, so that --resume makes it again, and merge MLflow's surplus runs",
    )
    add("--json", action="store_true", help="print what is found as JSON")
    return parser

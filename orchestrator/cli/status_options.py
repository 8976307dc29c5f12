"""The command line of `python -m orchestrator.status`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from orchestrator.cli.parser import Parser, plain_name
from orchestrator.cli.sweep_options import add_price, value_of
from orchestrator.planning.request import Request
from trainables.mistake import Mistake


@dataclass(frozen=True)
class StatusRequest:
    """What is asked of a sweep, or of all sweeps of a storage if none is named."""

    name: str | None
    storage: str
    price: float | None
    watch: bool
    as_json: bool


def read_request(words: list[str] | None = None) -> StatusRequest:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    given = _parser().parse_args(words)
    if given.watch and given.json:
        raise Mistake("--watch has no use with --json, which prints one state: leave one of them out.")
    if given.watch and given.name is None:
        raise Mistake("--watch watches one sweep: give its name, or leave --watch out to list the sweeps.")
    return StatusRequest(
        None if given.name is None else plain_name("NAME", given.name),
        given.storage,
        value_of("price_per_gpu_hour", given.price_per_gpu_hour),
        given.watch,
        given.json,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.status",
        description="Say how far a sweep is, who runs it and what it has cost so far, from its ledger alone, "
        "while it runs or after. Nothing is written.",
        allow_abbrev=False,
    )
    default = Request().storage
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="the sweep's name (default: every sweep of the storage)")
    add("--storage", metavar="URI", default=default, help=f"where the sweep is (default: {default})")
    add_price(parser)
    add("--watch", action="store_true", help="renew it every few seconds, until ctrl-C")
    add("--json", action="store_true", help="print it as JSON")
    return parser

"""The command line of `python -m orchestrator.ui`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from orchestrator.cli.parser import Parser, plain_name
from orchestrator.planning.request import Request
from trainables.mistake import Mistake


@dataclass(frozen=True)
class UiRequest:
    """Which sweep's page is asked for, where its records are, and how it is to be shown."""

    name: str
    storage: str
    tracking_uri: str | None
    port: int
    """0 for a free one."""
    open: bool


def read_request(words: list[str] | None = None) -> UiRequest:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    given = _parser().parse_args(words)
    if not (given.port.isdecimal() and 0 <= int(given.port) <= 65535):
        raise Mistake(f"--port {given.port} is not valid: give a whole number from 0 (a free port) to 65535.")
    name = plain_name("NAME", given.name)
    return UiRequest(name, given.storage, given.tracking_uri, int(given.port), not given.no_browser)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.ui",
        description="Show a sweep's cells in MLflow, side by side by held-out class: start MLflow's server "
        "on this machine for as long as the command runs, and open the page.",
        allow_abbrev=False,
    )
    default = Request().storage
    add = parser.add_argument
    add("name", metavar="NAME", help="the sweep's name")
    add("--storage", metavar="URI", default=default, help=f"where the sweep is (default: {default})")
    add("--tracking-uri", metavar="URI", help="MLflow's records (default: an SQLite file in the storage)")
    add("--port", metavar="N", default="0", help="the server's port (default: 0, a free one)")
    add("--no-browser", action="store_true", help="print the address only")
    return parser

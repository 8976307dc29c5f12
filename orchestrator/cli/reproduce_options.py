"""The command line of `python -m orchestrator.reproduce`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from orchestrator.cli.parser import Parser, plain_name, wide
from orchestrator.cli.sweep_options import (
    DEFAULTS,
    add_data,
    add_executor,
    add_image_sets,
    add_price,
    add_probe,
    add_records,
    add_versions,
    add_workers,
    checked,
    values_of,
)
from orchestrator.planning.request import Request

PREFIX = "paper"


@dataclass(frozen=True)
class Reproduction:
    """A table of the paper, what the names of its sweeps begin with, and where and how they run."""

    table: str
    prefix: str
    asked: Request


def read_reproduction(words: list[str] | None, tables: tuple[str, ...]) -> Reproduction:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    given = vars(_parser(tables).parse_args(words))
    table, prefix = given.pop("table"), plain_name("--name", given.pop("name", PREFIX))
    fields = values_of(given)
    return Reproduction(table, prefix, checked(Request(**fields, given=frozenset(fields))))


def _parser(tables: tuple[str, ...]) -> Parser:
    parser = Parser(
        prog="python -m orchestrator.reproduce",
        usage=f"python -m orchestrator.reproduce {'|'.join(tables)} [options]",
        description="Run, or go on with, the sweeps that a table of the paper needs, by its protocol, and\n"
        "write the table, the paper's numbers beside ours, to STORAGE/reproduce-TABLE/table.md.",
        formatter_class=wide,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _what(parser.add_argument_group("what is reproduced"), tables)
    where = parser.add_argument_group("where and how it runs")
    add_data(where)
    add_workers(where)
    add_records(where)
    add_executor(where)
    add_versions(where)
    add_price(where)
    where.add_argument("--dry-run", action="store_true", help="print the sweeps and their cost; run nothing")
    add_probe(where)
    return parser


def _what(group: argparse._ArgumentGroup, tables: tuple[str, ...]) -> None:
    add = group.add_argument
    add("table", choices=tables, metavar="TABLE", help="the table, by the paper's number")
    add(
        "--seeds",
        metavar="N",
        help=f"final cells per method and holdout (default: {DEFAULTS.seeds}, the paper's)",
    )
    add(
        "--set",
        dest="assignments",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="override fields in every sweep, as in orchestrator.sweep; the table names what departs",
    )
    add_image_sets(group)
    add("--name", metavar="PREFIX", help=f"what the sweeps' names begin with (default: {PREFIX})")

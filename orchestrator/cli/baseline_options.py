"""The command line of `python -m orchestrator.baseline`: a sweep of a method that trains nothing."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json

from orchestrator.cli.parser import Parser, wide
from orchestrator.cli.sweep_options import add_data, add_image_sets, add_records, add_versions, values_of
from orchestrator.planning.request import Request
from search_spaces import DEFAULT, all_benchmarks
from trainables.mistake import Mistake
from trainables.run import NO_HOLDOUT
from trainables.settings import split_assignments
from trainables.training_free import TRAINING_FREE

SETTINGS = ("image_size", "train_fraction", "skip_bad_images")
"""Fields that --set takes: those that matter without a network."""


def read_request(words: list[str] | None = None) -> Request:
    """Return the sweep that a command line asks for; raise Mistake if it is not valid.

    Images are resized whole, without the larger stored size from which networks crop. With image sets and no
    held-out class that was named, none is held out.
    """
    fields = values_of(vars(_parser().parse_args(words)))
    sets, assignments = fields.get("ood", ()), fields.pop("assignments", ())
    holdouts = fields.pop("holdouts", (NO_HOLDOUT,) if sets else ())
    if NO_HOLDOUT in holdouts and not sets:
        raise Mistake(
            "--holdouts none leaves nothing to detect: name classes, or image sets with --ood NAME=PATH."
        )
    for field in split_assignments(assignments):
        if field not in SETTINGS:
            raise Mistake(f"A baseline trains no network: --set takes {', '.join(SETTINGS)}, not {field}.")
    request = Request(
        methods=(fields.pop("method"),),
        holdouts=holdouts,
        seeds=1,
        assignments=(*assignments, "stored_size=0"),
        executor="inline",
        given=frozenset(fields),
        **fields,
    )
    return dataclasses.replace(request, name=_name(request)) if sets and request.name is None else request


def _name(request: Request) -> str:
    """Return a name of its own for every choice of image sets, since cells that are done score no others."""
    what = [request.holdouts, request.assignments, sorted(request.ood)]
    how = [request.ood_resize, request.crops_per_image, request.ood_seed]
    digest = hashlib.sha256(json.dumps([what, how]).encode()).hexdigest()[:8]
    return f"{request.benchmark}-{request.methods[0]}-{digest}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.baseline",
        usage=f"python -m orchestrator.baseline {'|'.join(TRAINING_FREE.names)} [BENCHMARK] [options]",
        description="Score a benchmark with a method that trains no network: a sweep of this method alone,\n"
        "in this process. Every class is held out in turn, or image sets are told from the test images.",
        formatter_class=wide,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _what(parser.add_argument_group("what is scored"))
    where = parser.add_argument_group("where")
    add_data(where)
    add_records(where)
    add_versions(where)
    where.add_argument("--name", metavar="NAME", help="the sweep's name (default: from what is asked for)")
    return parser


def _what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("method", choices=TRAINING_FREE.names, help="the method")
    add(
        "benchmark",
        nargs="?",
        metavar="BENCHMARK",
        help=f"{', '.join(all_benchmarks())} (default: {DEFAULT})",
    )
    add(
        "--holdouts",
        nargs="+",
        action="extend",
        metavar="C",
        help="classes to hold out in turn (default: every class, or none with --ood)",
    )
    add_image_sets(group)
    add(
        "--set",
        dest="assignments",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help=f"override {', '.join(SETTINGS)}",
    )

"""The command line of `python -m orchestrator.baseline`: a sweep of a method that trains nothing."""

from __future__ import annotations

import argparse

from orchestrator.cli.parser import Parser, plain_name, wide
from orchestrator.ledger.storage import absolute_path
from orchestrator.planning.request import DEFAULT_DATA, Request
from search_spaces import DEFAULT, all_benchmarks
from trainables.mistake import Mistake
from trainables.run import NO_HOLDOUT
from trainables.settings import split_assignments
from trainables.training_free import TRAINING_FREE

SETTINGS = ("image_size", "train_fraction", "skip_bad_images")
"""Recipe fields that --set takes: those that matter without a network."""


def read_request(words: list[str] | None = None) -> Request:
    """Return the sweep that a command line asks for; raise Mistake if it is not valid.

    Images are resized whole, without the larger stored size from which networks crop.
    """
    given = _parser().parse_args(words)
    if NO_HOLDOUT in (given.holdouts or ()):
        raise Mistake("--holdouts none leaves nothing to detect: name classes.")
    for field in split_assignments(given.set or ()):
        if field not in SETTINGS:
            raise Mistake(f"A baseline trains no network: --set takes {' and '.join(SETTINGS)}, not {field}.")
    return Request(
        benchmark=given.benchmark or DEFAULT,
        methods=(given.method,),
        holdouts=tuple(given.holdouts or ()),
        seeds=1,
        assignments=(*(given.set or ()), "stored_size=0"),
        data=absolute_path(given.data) if given.data else None,
        cache=absolute_path(given.cache) if given.cache else "",
        download=given.download,
        storage=given.storage,
        tracking_uri=given.tracking_uri,
        executor="inline",
        name=given.name if given.name is None else plain_name("--name", given.name),
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.baseline",
        usage=f"python -m orchestrator.baseline {'|'.join(TRAINING_FREE.names)} [BENCHMARK] [options]",
        description="Score a benchmark with a method that trains no network: a sweep of this method alone,\n"
        "in this process. The same command again computes only what is missing.",
        formatter_class=wide,
        allow_abbrev=False,
    )
    _what(parser.add_argument_group("what is scored"))
    _where(parser.add_argument_group("where"))
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
    add("--holdouts", nargs="+", metavar="C", help="classes to hold out in turn (default: every class)")
    add("--set", nargs="+", action="extend", metavar="KEY=VALUE", help=f"override {' or '.join(SETTINGS)}")


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", metavar="PATH", help=f"the benchmark's data (default: {DEFAULT_DATA})")
    add("--download", action="store_true", help="let a reader fetch its data; nothing downloads without it")
    add("--cache", metavar="DIR", default="", help="prepared data (default: the user's cache folder)")
    add("--storage", metavar="URI", default=Request().storage, help="a folder, s3://, ... (default: ./runs)")
    add("--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)")
    add(
        "--name",
        metavar="NAME",
        help="the sweep's name (default: benchmark and a short hash of its specification)",
    )

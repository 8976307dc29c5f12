"""The command line of `python -m orchestrator.sweep`: its options, in one place."""

from __future__ import annotations

import argparse
import math
import os
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator.planning.specification import Conduct, Request, Specification
from search_spaces import all_benchmarks
from trainables.mistake import Mistake
from trainables.run import METHODS, Recipe
from trainables.settings import valid_of

DEFAULT_STORAGE = "./runs"
MOST = 10_000
"""Seeds, lambdas, workers and trials at once: more is a slip of the finger."""
PLANNING = (
    "benchmark",
    "methods",
    "holdouts",
    "seeds",
    "select",
    "lambda_trials",
    "aux_weight",
    "set",
    "workers",
)
"""Options that say what the sweep is: --resume --name NAME alone reads them from the ledger."""


class Parser(argparse.ArgumentParser):
    """A command line whose refusals are Mistakes; for every command."""

    def error(self, message: str) -> NoReturn:
        """Raises the message as a sentence that names the command's help."""
        message = message.removeprefix("argument ")
        raise Mistake(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")


@dataclass(frozen=True)
class Options:
    """What was typed that is not the specification: where and how the sweep runs."""

    request: Request
    planned: bool
    """Whether any option that says what the sweep is was given."""
    data: str | None
    cache: str
    download: bool
    cpus_per_worker: float
    gpus_per_worker: float | None
    max_concurrent: int
    storage: str
    tracking_uri: str | None
    executor: str
    address: str | None
    name: str | None
    resume: bool
    dry_run: bool


def read_arguments(words: list[str] | None = None) -> Options:
    """The options of a command line; Mistake for words that are not valid."""
    given = _parser().parse_args(words)
    values = vars(given)
    name = values["name"]
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise Mistake(
            f"--name {name!r} is no plain word: use up to 100 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit."
        )
    cpus = _number("--cpus-per-worker", values["cpus_per_worker"], 1.0)
    gpus = values["gpus_per_worker"]
    gpus = None if gpus is None else _number("--gpus-per-worker", gpus, 0.0)
    workers = _whole("--workers", values["workers"], 1)
    _check_share(gpus, workers)
    _check_executor(values)
    request = Request(
        benchmark=values["benchmark"] or "digits",
        methods=tuple(values["methods"] or ("classification", "rotation")),
        holdouts=tuple(values["holdouts"] or ()),
        seeds=_whole("--seeds", values["seeds"], 3),
        select=values["select"] or "holdout",
        lambda_trials=values["lambda_trials"] and _whole("--lambda-trials", values["lambda_trials"], 1),
        aux_weight=tuple(values["aux_weight"] or ()),
        assignments=tuple(values["set"] or ()),
        workers=workers,
        threads=max(1, int(cpus)),
    )
    return Options(
        request=request,
        planned=any(values[option] is not None for option in PLANNING),
        data=values["data"] and _absolute(values["data"]),
        cache=values["cache"] and _absolute(values["cache"]),
        download=values["download"],
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        max_concurrent=_whole("--max-concurrent", values["max_concurrent"], 0),
        storage=values["storage"],
        tracking_uri=values["tracking_uri"],
        executor=values["executor"],
        address=values["address"],
        name=name,
        resume=values["resume"],
        dry_run=values["dry_run"],
    )


def _whole(option: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise Mistake(f"{option} {text} is not valid: give a whole number from 1 to {MOST}.")
    return number


def _number(option: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise Mistake(f"{option} {text} is not valid: give a finite number of at least 0.")
    return number


def _check_share(gpus: float | None, workers: int) -> None:
    """Raises Mistake for a share of GPUs that a worker cannot have."""
    if gpus and gpus > 1 and gpus != int(gpus):
        raise Mistake(f"--gpus-per-worker {gpus:g} is not valid: give a share below 1, or a whole number.")
    if gpus and gpus < 1 and workers > 1:
        raise Mistake(
            f"--gpus-per-worker {gpus:g} does not go with --workers {workers}: workers that talk to each "
            "other need a GPU each; give 1, or leave --workers out to share one among trials."
        )


def _check_executor(values: dict[str, Any]) -> None:
    """Raises Mistake for an option that --executor inline, which has no Ray, cannot heed."""
    for option in ("address", "max_concurrent") if values["executor"] == "inline" else ():
        if values[option] is not None:
            raise Mistake(
                f"--{option.replace('_', '-')} has no use with --executor inline, which runs one cell after "
                "another in this process: leave one of them out."
            )


def _absolute(path: str) -> str:
    """A path that means the same in every process of this machine, or of those that share it."""
    return os.path.abspath(os.path.expanduser(path))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.sweep",
        usage="python -m orchestrator.sweep [BENCHMARK] [options]",
        description="Runs a sweep of hold-out-class experiments: plans its cells, selects lambda on\n"
        "validation accuracy, trains and scores every cell, and reports.\n"
        "The same command goes on with the same sweep.",
        epilog=_settings_help(),
        formatter_class=wide,
        allow_abbrev=False,
    )
    _what(parser.add_argument_group("what the sweep is"))
    _where(parser.add_argument_group("where and how it runs"))
    return parser


def _what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("benchmark", nargs="?", metavar="BENCHMARK", help=f"{', '.join(all_benchmarks())} (default: digits)")
    add(
        "--methods",
        nargs="+",
        metavar="M",
        help=f"out of {', '.join(METHODS)}, or joined by + (default: classification rotation)",
    )
    add("--holdouts", nargs="+", metavar="C", help="classes to hold out, or none (default: every class)")
    add("--seeds", metavar="N", help="trials a cell, seeds 0 to N-1 (default: 3)")
    add(
        "--select",
        choices=("holdout", "benchmark"),
        help="one lambda a held-out class, or one for the benchmark (default: holdout)",
    )
    add("--lambda-trials", metavar="N", help="search cells a study (default: the benchmark's)")
    add("--aux-weight", nargs="+", metavar="X", help="lambda given instead of searched: X, or task=X")
    add(
        "--set",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="override a field; the fields are listed below",
    )


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", metavar="PATH", help="where the benchmark's data is (default: ./data)")
    add("--download", action="store_true", help="let a reader fetch its data; nothing downloads without it")
    add(
        "--cache",
        metavar="DIR",
        default="",
        help="folder for prepared data (default: the user's cache folder)",
    )
    add("--workers", metavar="N", help="Ray Train workers a trial (default: 1, in the trial's own process)")
    add("--cpus-per-worker", metavar="F", help="CPUs of a worker, and its threads (default: 1)")
    add(
        "--gpus-per-worker",
        metavar="F",
        help="GPUs of a worker; fractions share one (default: 1 if there is a GPU, else 0)",
    )
    add("--max-concurrent", metavar="N", help="trials at once (default: as many as fit)")
    add(
        "--storage",
        metavar="URI",
        default=DEFAULT_STORAGE,
        help="a folder, s3://, gs://, ... (default: ./runs)",
    )
    add("--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)")
    add(
        "--executor",
        choices=("ray", "inline"),
        default="ray",
        help="inline runs cells one after another in this process, without Ray",
    )
    add("--address", metavar="A", help="a Ray cluster's address (default: RAY_ADDRESS, else a local Ray)")
    add(
        "--name",
        metavar="NAME",
        help="the sweep's name (default: benchmark and a short hash of its specification)",
    )
    add(
        "--resume",
        action="store_true",
        help="insist that the sweep exists; with --name alone it goes on as it was",
    )
    add("--dry-run", action="store_true", help="print the plan and its cost; run nothing, open no data")


def wide(prog: str) -> argparse.HelpFormatter:
    """Help as it was laid out, in lines of up to 110 characters; for every command with many options."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110)


def _settings_help() -> str:
    lines = ["fields that --set knows (their defaults are the benchmark's):"]
    for cls in (Recipe, Specification, Conduct):
        for name, (kind, valid) in valid_of(cls).items():
            lines.append(f"  {name:<24} {valid.meaning}: {valid.words(kind)}")
    lines.append(
        "  lambda.<task>            where a task's lambda is searched: 0.05..5 (log scale), or 0.5,1.0"
    )
    return "\n".join(lines)

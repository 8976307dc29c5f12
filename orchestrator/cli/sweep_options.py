"""The command line of `python -m orchestrator.sweep`: its options, in one place."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from typing import Any

from orchestrator.cli.config_file import combined, read_config
from orchestrator.cli.parser import WIDTH, Parser, number, plain_name, whole_number, wide
from orchestrator.ledger.storage import absolute_path
from orchestrator.planning.request import DEFAULT_DATA, Request
from orchestrator.planning.specification import (
    CHOICES,
    OWN,
    PAPER,
    RunSettings,
    Specification,
    searched_fields,
)
from search_spaces import all_benchmarks
from trainables.data.named_images import RESIZES
from trainables.detectors import DETECTORS
from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.run import method_parts
from trainables.settings import valid_of

DEFAULTS = Request()
LARGEST_SEED = 10**9 - 1
PROBE_SECONDS = "20"


def read_request(words: list[str] | None = None) -> Request:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    parser = _parser()
    given = vars(parser.parse_args(words))
    file = given.pop("config", None)
    fields = values_of(given)
    if file is not None:
        fields = combined(_of_file(file, parser), fields)
    if "=" in fields.get("benchmark", ""):
        raise parser.stray(fields["benchmark"])
    return checked(Request(**fields, given=frozenset(fields)))


def checked(request: Request) -> Request:
    """Return a request; raise Mistake for options of where it runs that do not go together."""
    _check_share(request.gpus_per_worker, request.workers)
    _check_needs_ray(request)
    return request


def _of_file(path: str, parser: Parser) -> dict[str, Any]:
    """Return the values of a file's options by the request's fields; raise Mistake, which names the file."""
    words = read_config(path, parser._actions)
    try:
        return values_of(words)
    except Mistake as mistake:
        raise Mistake(f"--config {path}: {mistake}") from None


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options by the request's fields, from their words."""
    return {name: value_of(name, value) for name, value in given.items()}


def value_of(name: str, value: Any) -> Any:
    """Return an option's value from its words; None stays None."""
    if value is None:
        return None
    option = f"--{name.replace('_', '-')}"
    if name in ("seeds", "lambda_trials", "search_seeds", "workers", "max_concurrent", "crops_per_image"):
        return whole_number(option, value)
    if name == "halving":
        return whole_number(option, value, at_least=2)
    if name == "ood_seed":
        return whole_number(option, value, at_least=0, at_most=LARGEST_SEED)
    if name == "ood":
        return tuple(map(_with_absolute_path, value))
    if name in ("cpus_per_worker", "gpus_per_worker", "price_per_gpu_hour", "probe"):
        return number(option, value)
    if name == "plugins":
        return tuple(absolute_path(path) for path in value)
    if name in ("data", "cache"):
        return absolute_path(value) if value else value
    if name == "name":
        return plain_name(option, value)
    if name in ("assignments", "search"):
        return tuple(dict.fromkeys(value))
    return tuple(value) if isinstance(value, list) else value


def _with_absolute_path(word: str) -> str:
    """Return NAME=PATH with a path that other processes find, too."""
    name, _, path = word.partition("=")
    return f"{name}={absolute_path(path)}" if path else word


def _check_share(gpus: float | None, workers: int) -> None:
    """Raise Mistake for a share of GPUs that a worker cannot have."""
    if gpus and gpus > 1 and gpus != int(gpus):
        raise Mistake(f"--gpus-per-worker {gpus:g} is not valid: give a share below 1, or a whole number.")
    if gpus and gpus < 1 and workers > 1:
        raise Mistake(
            f"--gpus-per-worker {gpus:g} does not go with --workers {workers}: workers that talk to each "
            "other need a GPU each; give 1, or leave --workers out to share one among cells."
        )


def _check_needs_ray(request: Request) -> None:
    """Raise Mistake for an option that means something to Ray alone, without Ray."""
    for field in ("address", "max_concurrent"):
        if request.executor == "inline" and field in request.given:
            raise Mistake(
                f"--{field.replace('_', '-')} has no use with --executor inline, which runs one cell "
                "after another in this process: leave one of them out."
            )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m orchestrator.sweep",
        usage="python -m orchestrator.sweep [BENCHMARK] [options]",
        description="Run a sweep of hold-out-class experiments: plan its cells, select lambda on validation\n"
        "accuracy, train and score every cell, and report. The same command goes on with the same sweep.",
        epilog=_settings_help(),
        formatter_class=wide,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _what(parser.add_argument_group("what the sweep is"))
    _where(parser.add_argument_group("where and how it runs"))
    return parser


def _what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "benchmark",
        nargs="?",
        metavar="BENCHMARK",
        help=f"{', '.join(all_benchmarks())} (default: {DEFAULTS.benchmark})",
    )
    add(
        "--methods",
        nargs="+",
        action="extend",
        metavar="M",
        help=f"out of {', '.join(method_parts())}, or joined by + (default: {' '.join(DEFAULTS.methods)})",
    )
    add(
        "--holdouts",
        nargs="+",
        action="extend",
        metavar="C",
        help="classes to hold out, or none (default: every class)",
    )
    add(
        "--seeds",
        metavar="N",
        help=f"final cells per method and holdout, seeds 0 to N-1 (default: {DEFAULTS.seeds})",
    )
    add(
        "--select",
        choices=("holdout", "benchmark"),
        help=f"one lambda per held-out class, or one for the benchmark (default: {DEFAULTS.select})",
    )
    add(
        "--lambda-trials",
        metavar="N",
        help="lambdas that a study tries in a range (default: the benchmark's)",
    )
    add(
        "--groups",
        metavar="PATTERN",
        help="keep images of one group, such as a patient's, on one side of every split that is made: a "
        "regular expression of paths, with the group's name in parentheses, or a column of Parquet files",
    )
    add(
        "--aux-weight",
        nargs="+",
        action="extend",
        metavar="X",
        help="lambda given instead of searched: X, or task=X",
    )
    add(
        "--search",
        nargs="+",
        action="extend",
        metavar="FIELD=SPACE",
        help="fields of the recipe searched beside lambda, for every method alike: "
        f"{', '.join(searched_fields())} (docs/search.md)",
    )
    add(
        "--search-seeds",
        metavar="K",
        help=f"seeds of which a lambda's validation accuracy is the mean (default: {DEFAULTS.search_seeds})",
    )
    add(
        "--choose",
        choices=CHOICES,
        help="the best value, the best mean with its neighbours, or the smallest lambda within a standard "
        f"error of the best (default: {DEFAULTS.choose})",
    )
    add(
        "--halving",
        metavar="ETA",
        help="train a study's trials in rungs, from each of which the best 1/ETA go on (default: all to the "
        "end)",
    )
    add(
        "--protocol",
        choices=(OWN, PAPER),
        help="paper: choose lambda as the paper did, where it is known (default: default)",
    )
    add(
        "--detectors",
        nargs="+",
        action="extend",
        metavar="D",
        help=f"scores of the test images, out of {', '.join(DETECTORS.names)} "
        f"(default: {' '.join(DEFAULTS.detectors)})",
    )
    add_image_sets(group)
    add(
        "--plugin",
        dest="plugins",
        nargs="+",
        action="extend",
        metavar="FILE.py",
        help="files with your own detectors, auxiliary tasks and benchmarks (docs/extending.md)",
    )
    add(
        "--set",
        dest="assignments",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="override a field; the fields are listed below",
    )


def add_image_sets(group: argparse._ArgumentGroup) -> None:
    """Add the options of image sets that are scored beside the test images."""
    add = group.add_argument
    add(
        "--ood",
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="image sets to score as anomalies, too: folders, tar archives or Parquet files",
    )
    add(
        "--ood-resize",
        choices=RESIZES,
        help="how their images of other sizes are brought to the benchmark's (default: they are refused)",
    )
    add("--crops-per-image", metavar="N", help="with --ood-resize crop, crops of each image (default: 1)")
    add("--ood-seed", metavar="N", help="seed of the crops (default: 0)")


def add_data(group: argparse._ArgumentGroup) -> None:
    """Add the options of where the data is."""
    add = group.add_argument
    add("--data", metavar="PATH", help=f"where the benchmark's data is (default: {DEFAULT_DATA})")
    add("--download", action="store_true", help="let a reader fetch its data; nothing downloads without it")
    add("--cache", metavar="DIR", help="folder for prepared data (default: the user's cache folder)")


def add_versions(group: argparse._ArgumentGroup) -> None:
    """Add the option by which a sweep goes on although versions differ."""
    group.add_argument(
        "--accept-versions",
        action="store_true",
        help="go on with other versions of packages than the sweep was begun with, if results can differ",
    )


def add_records(group: argparse._ArgumentGroup) -> None:
    """Add the options of where the ledger and MLflow's records are."""
    add = group.add_argument
    add("--storage", metavar="URI", help=f"a folder, s3://, gs://, ... (default: {DEFAULTS.storage})")
    add(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow's records go (default: an SQLite file in the storage folder)",
    )


def add_price(group: argparse._ActionsContainer) -> None:
    """Add the option with which costs are given in money, too."""
    group.add_argument(
        "--price-per-gpu-hour",
        metavar="P",
        help="what a GPU costs per hour, to give the sweep's cost in money, too (default: hours alone)",
    )


def add_probe(group: argparse._ActionsContainer) -> None:
    """Add the option that measures before it says what a sweep takes."""
    group.add_argument(
        "--probe",
        nargs="?",
        const=PROBE_SECONDS,
        metavar="SECONDS",
        help="first measure steps and evaluations of these cells on this machine, or on one of the cluster, "
        f"and say what the sweep takes (default: not; without a number {PROBE_SECONDS} s)",
    )


def add_workers(group: argparse._ArgumentGroup) -> None:
    """Add the options of how many cells run at once, and on what."""
    add = group.add_argument
    add(
        "--workers",
        metavar="N",
        help=f"Ray Train workers per cell (default: {DEFAULTS.workers}, without Ray Train)",
    )
    add(
        "--cpus-per-worker",
        metavar="F",
        help=f"CPUs of a worker, and its threads (default: {DEFAULTS.cpus_per_worker:g})",
    )
    add(
        "--gpus-per-worker",
        metavar="F",
        help="GPUs of a worker; fractions share one (default: 1 if there is a GPU, else 0)",
    )
    add("--max-concurrent", metavar="N", help="cells that run at once (default: as many as fit)")


def add_executor(group: argparse._ArgumentGroup) -> None:
    """Add the options of what runs the cells."""
    add = group.add_argument
    add(
        "--executor",
        choices=("ray", "inline"),
        help=f"inline: cells one after another in this process, without Ray (default: {DEFAULTS.executor})",
    )
    add("--address", metavar="A", help="a Ray cluster's address (default: RAY_ADDRESS, else a local Ray)")


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_data(group)
    add_workers(group)
    add_records(group)
    add_executor(group)
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
    add_versions(group)
    add_price(group)
    add("--config", metavar="FILE.toml", help="options from a file; those given here win (README.md)")
    add("--write-config", action="store_true", help="print these options as such a file; run nothing")
    add("--dry-run", action="store_true", help="print the plan and its cost; run nothing, open no image")
    add_probe(group)


def _settings_help() -> str:
    fields = {
        name: f"{valid.meaning}: {valid.words(kind)}"
        for cls in (Recipe, Specification, RunSettings)
        for name, (kind, valid) in valid_of(cls).items()
    }
    fields["lambda.<task>"] = "where a task's lambda is searched: 0.05..5 (log scale), or 0.5,1.0"
    lines = ["fields that --set knows (the benchmark's file in search_spaces/ has the recipe's defaults):"]
    for name, text in fields.items():
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {name:<24} ", subsequent_indent=" " * 29)
    return "\n".join(lines)

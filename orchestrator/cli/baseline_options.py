"""The command line of `python -m orchestrator.baseline`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.parser import Parser, plain_name, whole_number, wide
from orchestrator.planning.request import Request
from search_spaces import DEFAULT, all_benchmarks
from trainables.mistake import Mistake
from trainables.run import NO_HOLDOUT
from trainables.settings import split_assignments

PIXEL_GAUSSIAN, EDGE_ENERGY = "pixel-gaussian", "edge-energy"
LARGEST_NUMBER = 10**9 - 1
RESIZES = ("nearest", "box", "bilinear", "crop")
SETTINGS = ("image_size", "skip_bad_images")
"""Recipe fields that --set takes: those that matter without a network."""


@dataclass(frozen=True)
class Options:
    """The parsed command line; `sets`, paths of OOD image sets by name, is empty in the hold-out setting."""

    method: str
    benchmark: str
    holdouts: tuple[str, ...]
    sets: dict[str, str]
    resize: str | None
    crops_per_image: int
    seed: int
    assignments: tuple[str, ...]
    data: str
    download: bool
    cache: str
    storage: str
    tracking_uri: str | None
    name: str | None


def read_arguments(words: list[str] | None = None) -> Options:
    """Parse a command line; raise Mistake if it is not valid."""
    values = vars(_parser().parse_args(words))
    name, sets = values["name"], _sets(values["ood"] or ())
    if name is not None:
        plain_name("--name", name)
    holdouts = tuple(values["holdouts"] or ())
    if holdouts and sets:
        raise Mistake("--holdouts and --ood are two settings: give one of them, and the other by itself.")
    if NO_HOLDOUT in holdouts:
        raise Mistake(
            "--holdouts none leaves nothing to detect: name classes, or image sets with --ood NAME=PATH."
        )
    if values["ood_resize"] is not None and not sets:
        raise Mistake("--ood-resize has no use without image sets: name some with --ood NAME=PATH.")
    if values["crops_per_image"] is not None and values["ood_resize"] != "crop":
        raise Mistake("--crops-per-image has no use without --ood-resize crop: add it, or leave this out.")
    for field in split_assignments(values["set"] or ()):
        if field not in SETTINGS:
            raise Mistake(f"A baseline trains no network: --set takes {' and '.join(SETTINGS)}, not {field}.")
    return Options(
        method=values["method"],
        benchmark=values["benchmark"] or DEFAULT,
        holdouts=holdouts,
        sets=sets,
        resize=values["ood_resize"],
        crops_per_image=_number("--crops-per-image", values["crops_per_image"], 1, at_least=1),
        seed=_number("--seed", values["seed"], 0, at_least=0),
        assignments=tuple(values["set"] or ()),
        **{key: values[key] for key in ("data", "download", "cache", "storage", "tracking_uri")},
        name=name,
    )


def _sets(words: tuple[str, ...]) -> dict[str, str]:
    sets: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise Mistake(f"--ood takes NAME=PATH, such as lsun-crop=LSUN/test, but was given {word!r}.")
        plain_name(f"--ood {word}: the name", name)
        if name in sets:
            raise Mistake(f"--ood names {name!r} twice: give each image set a name of its own.")
        if not Path(path).expanduser().exists():
            raise Mistake(f"--ood {word}: {path} does not exist; give a folder, an archive or Parquet file.")
        sets[name] = path
    return sets


def _number(option: str, text: str | None, default: int, *, at_least: int) -> int:
    return default if text is None else whole_number(option, text, at_least=at_least, at_most=LARGEST_NUMBER)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.baseline",
        usage="python -m orchestrator.baseline pixel-gaussian|edge-energy [BENCHMARK] [options]",
        description="Score a benchmark with a detector that trains no network: "
        "every class held out in turn,\n"
        "or the benchmark's test images against named image sets. The same command again computes only\n"
        "what is missing; under one --name, more classes or sets are added to the report.",
        formatter_class=wide,
        allow_abbrev=False,
    )
    _what(parser.add_argument_group("what is scored"))
    _where(parser.add_argument_group("where"))
    return parser


def _what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("method", choices=(PIXEL_GAUSSIAN, EDGE_ENERGY), help="the detector")
    add(
        "benchmark",
        nargs="?",
        metavar="BENCHMARK",
        help=f"{', '.join(all_benchmarks())} (default: {DEFAULT})",
    )
    add("--holdouts", nargs="+", metavar="C", help="classes to hold out in turn (default: every class)")
    add(
        "--ood",
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="image sets to tell apart from the test images: folders, tar archives or Parquet files",
    )
    add(
        "--ood-resize",
        choices=RESIZES,
        help="how images of other sizes are brought to the benchmark's (default: they are refused)",
    )
    add(
        "--crops-per-image",
        metavar="N",
        help="with --ood-resize crop, crops of each image (default: 1)",
    )
    add("--seed", metavar="N", help="seed of the crops (default: 0)")
    add("--set", nargs="+", action="extend", metavar="KEY=VALUE", help=f"override {' or '.join(SETTINGS)}")


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", metavar="PATH", default="./data", help="the benchmark's data (default: ./data)")
    add("--download", action="store_true", help="let a reader fetch its data; nothing downloads without it")
    add("--cache", metavar="DIR", default="", help="prepared data (default: the user's cache folder)")
    add("--storage", metavar="URI", default=Request().storage, help="a folder, s3://, ... (default: ./runs)")
    add("--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)")
    add("--name", metavar="NAME", help="folder of the results in the storage (default: from the options)")

"""The command line of `python -m orchestrator.predict`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.cli.parser import Parser, add_sweep_name, number, whole_number, wide
from orchestrator.cli.sweep_options import LARGEST_SEED
from orchestrator.ledger.storage import absolute_path
from orchestrator.planning.request import DEFAULT_DATA, Request
from trainables.detectors import DEFAULT_DETECTORS, DETECTORS
from trainables.mistake import Mistake

FALSE_ALARMS = "0.05"
LEAST, MOST = 1e-6, 1 - 1e-6
"""Rates of false alarms that can be asked for."""
SUFFIX = ".csv"


@dataclass(frozen=True)
class PredictRequest:
    """Which images are looked at, by which network and detector of which sweep, and what becomes of it."""

    places: Request
    """The sweep's name, and where its ledger and its data are."""
    images: tuple[str, ...]
    method: str | None
    """None for the one with the best report."""
    holdout: str | None
    """None for the network that was trained on every class."""
    seed: int | None
    """None for the lowest."""
    detector: str
    rate: Fraction
    """Of false alarms."""
    output: str | None
    """The CSV file; None for standard output."""

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self.places.name)


def read_request(words: list[str] | None = None) -> PredictRequest:
    """Return what a command line asks for; raise Mistake for words that are not valid."""
    given = _parser().parse_args(words)
    output = None if given.output is None else absolute_path(given.output)
    if output is not None and not output.endswith(SUFFIX):
        raise Mistake(f"--output {given.output} is not valid: give the name of a file that ends in {SUFFIX}.")
    seed = given.seed
    return PredictRequest(
        places=Request(
            name=given.name,
            storage=given.storage,
            data=absolute_path(given.data) if given.data else None,
            cache=absolute_path(given.cache) if given.cache else "",
        ),
        images=tuple(given.images),
        method=given.method,
        holdout=given.holdout,
        seed=None if seed is None else whole_number("--seed", seed, at_least=0, at_most=LARGEST_SEED),
        detector=given.detector,
        rate=_rate(given.false_alarms),
        output=output,
    )


def _rate(text: str) -> Fraction:
    """Return a rate as the number that was typed, not the nearest binary one, from which ranks follow."""
    value = number("--false-alarms", text)
    if not LEAST <= value <= MOST:
        raise Mistake(f"--false-alarms {text} is not valid: give a share above 0 and below 1, such as 0.05.")
    return Fraction(repr(value))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.predict",
        usage="python -m orchestrator.predict NAME --images PATH [PATH ...] [options]",
        description="Say what a sweep's trained network takes images for, and flag those that are likely\n"
        "to be of none of its classes: a table (file, predicted, score, flagged) and a contact sheet.",
        formatter_class=wide,
        allow_abbrev=False,
    )
    _which(parser.add_argument_group("which images and which network"))
    _where(parser.add_argument_group("where"))
    return parser


def _which(group: argparse._ArgumentGroup) -> None:
    add_sweep_name(group)
    add = group.add_argument
    add("--images", nargs="+", metavar="PATH", required=True, help="image files, or folders of them")
    add("--method", metavar="M", help="the method (default: the one with the best report)")
    add("--holdout", metavar="C", help="the class that was held out (default: none, if that was swept)")
    add("--seed", metavar="S", help="the seed (default: 0, or the lowest that is there)")
    add(
        "--detector",
        metavar="D",
        default=DEFAULT_DETECTORS[0],
        help=f"what scores the images: {', '.join(DETECTORS.names)}, or a plug-in's (default: "
        f"{DEFAULT_DETECTORS[0]})",
    )
    add(
        "--false-alarms",
        metavar="RATE",
        default=FALSE_ALARMS,
        help=f"share of images of the known classes that may be flagged (default: {FALSE_ALARMS})",
    )


def _where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    default = Request().storage
    add(
        "--output",
        metavar=f"FILE{SUFFIX}",
        help="where the table goes, with the contact sheet beside it as a PNG (default: the table to "
        "standard output, and no sheet)",
    )
    add("--storage", metavar="URI", default=default, help=f"where the sweep is (default: {default})")
    add(
        "--data",
        metavar="PATH",
        help="the sweep's data, which only detectors need that do not work on logits (default: where it was "
        f"when the sweep ran, else {DEFAULT_DATA})",
    )
    add("--cache", metavar="DIR", help="folder for prepared data (default: the user's cache folder)")

"""`python -m orchestrator.report`: print and write a sweep's tables, comparisons and figures.

The report is made from the ledger alone. Exit codes: 0 every cell is done and the leak firewall held; 1 cells
are missing, the firewall did not hold, or MLflow's records were not rebuilt; 2 a mistake in the request.
Neither torch, Ray nor MLflow is imported, except MLflow with --rebuild-tracking.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping

from orchestrator.cli.parser import Parser, add_sweep_name, run_command
from orchestrator.cli.sweep_options import add_price, value_of
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.storage import unreadable
from orchestrator.planning.request import Request
from orchestrator.reporting.rebuild import connected, rebuild
from orchestrator.reporting.report import make_report
from trainables.mistake import one_line


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal without ± shows ? instead
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    return run_command(_run, words)


def _run(words: list[str] | None) -> int:
    given = _parser().parse_args(words)
    request = Request(
        storage=given.storage,
        tracking_uri=given.tracking_uri,
        price_per_gpu_hour=value_of("price_per_gpu_hour", given.price_per_gpu_hour),
    )
    ledger = Ledger(given.storage, given.name)
    try:
        report = make_report(ledger, request)
    except OSError as error:
        raise unreadable(given.storage, error) from None
    with connected(report, request) if given.rebuild_tracking else contextlib.nullcontext() as tracker:
        print(report.text, flush=True)
        files: Mapping[str, bytes] = {}
        try:
            files = {} if report.kept else report.files
            report.write()
            print(f"\n{report.whereabouts}")
        except OSError as error:
            print(f"The report's files were not written: {one_line(error)}", file=sys.stderr)
        complete = tracker is None or rebuild(tracker, report, files)
    return 0 if report.sound and not report.missing and not report.kept and complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.report",
        description="Print a sweep's report again and write its tables and figures, from its ledger alone.",
        allow_abbrev=False,
    )
    default = Request().storage
    add_sweep_name(parser)
    parser.add_argument(
        "--storage", metavar="URI", default=default, help=f"where the sweep is (default: {default})"
    )
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)"
    )
    add_price(parser)
    parser.add_argument(
        "--rebuild-tracking", action="store_true", help="write MLflow's records of the sweep again"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`python -m orchestrator.report`: a sweep's tables, comparisons and figures, from its ledger alone.

Exit codes: 0 every cell is done and the leak firewall held; 1 cells are missing or it did not; 2 a mistake in
what was asked. Neither torch, Ray nor MLflow is imported, but for MLflow with --rebuild-tracking.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.cli.next_commands import resume_from
from orchestrator.cli.sweep_options import DEFAULT_STORAGE, Parser
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cell
from orchestrator.reporting import sentences
from orchestrator.reporting.leak_check import Verdict, check_firewall
from orchestrator.reporting.main_table import WIDTH, main_tables, wide_table
from orchestrator.reporting.paper import Pair, Published, beside, difference_tables, paper_tables
from orchestrator.reporting.results import BEGUN, DONE, METRICS, Results, cells_csv, collect
from orchestrator.reporting.tables import Table, to_csv, to_latex, to_markdown, to_text
from search_spaces import find_benchmark
from search_spaces.benchmark import Benchmark
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker

PAIRED = "mean difference, 95% bootstrap interval, p of Wilcoxon's signed-rank test, uncorrected"


@dataclass(frozen=True)
class Report:
    """What a sweep's ledger says, ready to be printed and written."""

    results: Results
    verdict: Verdict
    benchmark: Benchmark
    go_on: str
    """The command that runs what is missing."""

    @property
    def sound(self) -> bool:
        """Whether the leak firewall held, without which no number counts."""
        return self.verdict.holds

    @property
    def missing(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell, state in self.results.states.items() if state != DONE]

    @property
    def failed(self) -> dict[Cell, int]:
        """The cells that were begun and are not done, with the number of attempts."""
        return {
            cell: self.results.attempts(cell) for cell, state in self.results.states.items() if state == BEGUN
        }

    @cached_property
    def text(self) -> str:
        """The report as a terminal shows it."""
        parts = [self._head()]
        if not self.sound:
            parts.append(_wrap(self.verdict.sentence))
        parts += [*_printed(main_tables(self.results)), "\n".join(map(_wrap, self._remarks()))]
        parts += _printed(self._differences)
        if self._beside_in_words:
            parts.append(_wrap(self._beside_in_words))
        if self._comparisons:
            heading = f"Against classification, paired over held-out classes ({PAIRED}):"
            parts.append("\n".join([_wrap(heading), *(_wrap(f"- {s}", "  ") for s in self._comparisons)]))
        return "\n\n".join(parts)

    def _remarks(self) -> list[str]:
        """What is missing, the firewall's verdict, how lambda was chosen if oddly, and departures."""
        results = self.results
        return [
            sentences.missing(results, self.go_on),
            self.verdict.sentence,
            *sentences.selection(results),
            *sentences.recipe_departures(results, self.benchmark),
        ]

    def summary_metrics(self) -> dict[str, float]:
        """mean/<method>/<metric> and, of two seeds or more, std/<method>/<metric>, in fractions.

        They are the average row's, or the only row's where no class is held out.
        """
        results, found = self.results, {}
        for method in results.specification.methods:
            for metric in METRICS:
                if results.held_out:
                    estimate = results.average(method, metric)
                else:
                    estimate = results.estimate(method, results.specification.holdouts[0], metric)
                if estimate is None:
                    continue
                name = f"{method.replace('+', '-')}/{metric}"
                found[f"mean/{name}"] = estimate.mean
                if estimate.std is not None:
                    found[f"std/{name}"] = estimate.std
        return found

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The contents of tables (Markdown, LaTeX, CSV) and figures (PNG), by file name."""
        from orchestrator.reporting.figures import draw_figures

        return {
            "table.md": self.markdown().encode(),
            "table.tex": self.latex().encode(),
            "table.csv": to_csv(wide_table(self.results)).encode(),
            "cells.csv": cells_csv(self.results).encode(),
            **draw_figures(self.results),
        }

    def write(self) -> dict[str, bytes]:
        """Writes the files into the ledger's report folder and returns their contents by name."""
        for name, data in self.files.items():
            self.results.ledger.write(data, "report", name)
        return self.files

    def markdown(self) -> str:
        """All tables and remarks as Markdown."""
        parts = [f"# {self._head()}", *(to_markdown(table) for table in main_tables(self.results))]
        parts.append("\n".join(f"- {sentence}" for sentence in self._remarks()))
        if self._differences or self._beside_in_words:
            parts.append("## Beside the paper")
        for table in [*self._differences, *self._paper_tables]:
            parts.append(to_markdown(table))
        if self._beside_in_words:
            parts.append(self._beside_in_words)
        if self._comparisons:
            parts.append("## Against classification, paired over held-out classes")
            parts.append(f"{PAIRED[0].upper()}{PAIRED[1:]}.")
            parts.append("\n".join(f"- {sentence}" for sentence in self._comparisons))
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        r"""All tables for \input into a document with the package booktabs."""
        tables = [*main_tables(self.results), *self._differences]
        return "\n\n".join(to_latex(table) for table in [*tables, *self._paper_tables]) + "\n"

    @cached_property
    def _beside(self) -> tuple[list[Pair], list[Published]]:
        return beside(self.results, self.benchmark)

    @cached_property
    def _differences(self) -> list[Table]:
        return difference_tables(self.results, self._beside[0])

    @cached_property
    def _paper_tables(self) -> list[Table]:
        return paper_tables(self.results, self._beside[0], self.benchmark)

    @cached_property
    def _beside_in_words(self) -> str:
        return sentences.beside_paper(self.results, self.benchmark, *self._beside)

    @cached_property
    def _comparisons(self) -> list[str]:
        return sentences.comparisons(self.results)

    def _head(self) -> str:
        ledger, total = self.results.ledger, len(self.results.states)
        return f"Sweep {ledger.name} in {ledger.storage}: {total - len(self.missing)} of {total} cells done"


def make_report(ledger: Ledger, go_on: str = "") -> Report:
    """Reads the ledger; Mistake where there is no such sweep.

    `go_on` is the command that runs what is missing, where the caller knows how the sweep is run.
    """
    results = collect(ledger)
    verdict = check_firewall(results.cells.all(), results.accounts, results.done)
    go_on = go_on or resume_from(ledger.name, ledger.storage)
    return Report(results, verdict, find_benchmark(results.specification.benchmark), go_on)


def main(words: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal without ± shows ? instead
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return _run(_parser().parse_args(words))
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    ledger = Ledger(options.storage, options.name)
    try:
        report = make_report(ledger, resume_from(options.name, options.storage, options.tracking_uri))
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise Mistake(
            f"The storage {options.storage} cannot be read ({reason}): give the one that holds the sweep, "
            "with --storage."
        ) from None
    tracker = _tracker(report, options) if options.rebuild_tracking else None
    print(report.text, flush=True)
    files: dict[str, bytes] = {}
    try:
        files = report.files
        report.write()
        print(f"\nTables and figures: {ledger.uri('report')}")
    except OSError as error:
        print(f"The report's files were not written: {str(error).splitlines()[0]}", file=sys.stderr)
    answered = tracker is None or _rebuild(tracker, report, files)
    return 0 if report.sound and not report.missing and answered else 1


def _tracker(report: Report, options: argparse.Namespace) -> Tracker:
    from orchestrator.tracking.tracker import open_tracker
    from orchestrator.tracking.uris import resolve_tracking_uri

    uri, results = resolve_tracking_uri(options.tracking_uri, options.storage), report.results
    tracker = open_tracker(uri, results.ledger, results.specification, results.cells.all())
    if tracker is None:
        raise Mistake(
            "--rebuild-tracking needs MLflow, which is not installed here: install the project as its "
            "README.md says, or leave the option out."
        )
    return tracker


def _rebuild(tracker: Tracker, report: Report, files: dict[str, bytes]) -> bool:
    """Writes the sweep's records again; whether the tracking server took them all."""
    count = tracker.rebuild()
    tracker.summarise(report.summary_metrics(), files, finished=not report.missing)
    if not tracker.close(timeout=60):
        print("The tracking server does not answer; give this command again once it does.", file=sys.stderr)
        return False
    if tracker.refusals:
        print(f"MLflow refused {len(tracker.refusals)} records ({tracker.refusals[0]}).", file=sys.stderr)
        return False
    print(f"MLflow's records of {count} cells are rebuilt. Compare them:  {tracker.ui_command()}")
    print(f"then open:  {tracker.comparison_address()}")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.report",
        description="Prints a sweep's report again and writes its tables and figures, from its ledger alone.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the sweep's name")
    parser.add_argument(
        "--storage", metavar="URI", default=DEFAULT_STORAGE, help="where the sweep is (default: ./runs)"
    )
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow's (default: an SQLite file in the storage folder)"
    )
    parser.add_argument(
        "--rebuild-tracking", action="store_true", help="write MLflow's records of the sweep again"
    )
    return parser


def _printed(tables: list[Table]) -> list[str]:
    """Tables for the terminal, and the caption of the first, which speaks for all."""
    return [*map(to_text, tables), *(_wrap(table.caption) for table in tables[:1])]


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    sys.exit(main())

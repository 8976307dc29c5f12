"""A sweep's report: tables, sentences and figures, made from its ledger alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import cached_property

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.spending import cost_metrics
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.reporting import sentences
from orchestrator.reporting.content import PAIRED, Content
from orchestrator.reporting.costs import cost_csv
from orchestrator.reporting.figures import draw_figures
from orchestrator.reporting.image_set_table import wide_image_set_table
from orchestrator.reporting.journal import JOURNAL, studies_journal
from orchestrator.reporting.leak_check import check_leaks
from orchestrator.reporting.main_table import WIDTH, wide_table
from orchestrator.reporting.noticed import noticed_table
from orchestrator.reporting.page import page
from orchestrator.reporting.page_sections import page_sections
from orchestrator.reporting.results import cells_csv, collect
from orchestrator.reporting.tables import Table, escape_markdown, to_csv, to_latex, to_markdown, to_text
from orchestrator.tracking.records import Summary
from search_spaces import find_benchmark
from search_spaces.benchmark import Benchmark
from trainables.mistake import Mistake

PAGE = "report.html"


class Report(Content):
    """A sweep's results, ready to be printed and written."""

    @cached_property
    def text(self) -> str:
        """The report for a terminal."""
        parts = [self.head]
        if not self.sound:
            parts.append(_wrap(self.verdict.sentence))
        if self.findings:
            parts.append("\n".join(_wrap(f"- {sentence}", "  ") for sentence in self.findings))
        for tables in self.tables:
            parts += _printed(tables)
        parts += ["\n".join(map(_wrap, self.sentences))]
        parts += _printed(self.differences)
        if self.about_paper:
            parts.append(_wrap(self.about_paper))
        if self.comparisons:
            heading = f"Against classification, paired over held-out classes ({PAIRED}):"
            parts.append("\n".join([_wrap(heading), *(_wrap(f"- {s}", "  ") for s in self.comparisons)]))
        return "\n\n".join(parts)

    def summary_metrics(self) -> dict[str, float]:
        """Return mean/<method>/<metric> and, for two seeds or more, std/<method>/<metric>, in 0..1.

        They are those of the average row, or of the only row if no class is held out. What the sweep took so
        far is cost/gpu_hours, cost/cpu_hours and cost/attempts, unless it is not known of every attempt.
        """
        results, found = self.results, {}
        for method in results.specification.methods:
            for metric in results.metrics_of(method):
                if results.held_out:
                    estimate = results.average(method, metric)
                else:
                    estimate = results.estimate(method, results.specification.holdouts[0], metric)
                if estimate is None:
                    continue
                found[_mean_name(method, metric)] = estimate.mean
                if estimate.std is not None:
                    found[_mean_name(method, metric, "std")] = estimate.std
        return found | cost_metrics(self.cost.spending)

    def summary(self) -> Summary:
        """Return what MLflow is told of the sweep as a whole."""
        tables = "\n\n".join(map(to_markdown, self.tables[0]))
        return Summary(self.summary_metrics(), self.compared, tables, self._means())

    def _means(self) -> str:
        """Return a sentence with the mean of each reported metric that every method's cells are done for."""
        means = self.summary_metrics()
        found: dict[str, list[str]] = {}
        for method in self.results.specification.methods:
            for metric, title in self.results.metrics_of(method).items():
                mean = means.get(_mean_name(method, metric))
                if mean is not None:
                    found.setdefault(title, []).append(f"{method} {100 * mean:.2f}%")
        return "; ".join(f"{title}: {', '.join(each)}" for title, each in found.items())

    @property
    def compared(self) -> list[str]:
        """MLflow's names of the reported metrics, of a final cell's run."""
        methods = self.results.specification.methods
        found = [metric for method in methods for metric in self.results.metrics_of(method)]
        if found:
            return [f"final/{metric}" for metric in dict.fromkeys(found)]
        sets = self.results.image_sets
        return [f"ood/{s}/ap_{d}" for s in sets for m in methods for d in self.results.detectors_of(m)]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The contents of tables (Markdown, LaTeX, CSV), figures (PNG, PDF) and the page, by file name."""
        drawn = draw_figures(self.results, self.scores)
        return {
            "table.md": self.markdown().encode(),
            "table.tex": self.latex().encode(),
            "table.csv": to_csv(wide_table(self.results)).encode(),
            "cells.csv": cells_csv(self.results).encode(),
            "cost.csv": self._cost_csv().encode(),
            **self._noticed_file(),
            **self._image_set_files(),
            **self._journal(),
            **drawn,
            PAGE: self.html(drawn).encode(),
        }

    def _journal(self) -> dict[str, bytes]:
        journal = studies_journal(self.results)
        return {} if journal is None else {JOURNAL: journal}

    def _cost_csv(self) -> str:
        results = self.results
        return cost_csv(results.cells.all(), results.spent, self.request.price_per_gpu_hour)

    def _noticed_file(self) -> dict[str, bytes]:
        if not self.sureness:
            return {}
        return {"noticed.csv": to_csv(noticed_table(self.results, self.sureness)).encode()}

    def _image_set_files(self) -> dict[str, bytes]:
        if not self.results.image_sets:
            return {}
        return {"image-sets.csv": to_csv(wide_image_set_table(self.results)).encode()}

    def write(self) -> dict[str, bytes]:
        """Write the files into the ledger's report folder; return their contents by name.

        Files that are based on no cell, or leave some out, are not written over those that are there: nothing
        is returned then.
        """
        if self.kept:
            return {}
        for name, data in self.files.items():
            self.results.ledger.write_report(name, data)
        return self.files

    @cached_property
    def kept(self) -> str:
        """Why the files that are there stay as they are; empty if `write` writes."""
        return sentences.kept_files(self.results)

    @property
    def whereabouts(self) -> str:
        """Where the files are, and whether they are those of this report."""
        where = self.results.ledger.report_uri
        if self.kept:
            return f"Tables and figures were not written, since {self.kept}; what is in {where} is as it was."
        return f"The report as one page: {where}/report.html; tables and figures are beside it."

    def markdown(self) -> str:
        """Return all tables and sentences as Markdown."""
        tables = [table for tables in self.tables for table in tables]
        parts = [f"# {self.head}"]
        if self.findings:
            parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self.findings))
        parts += map(to_markdown, tables)
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self.sentences))
        if self.taken_for:
            parts.append(to_markdown(self.taken_for))
        if self.differences or self.about_paper:
            parts.append("## Beside the paper")
        for table in self.beside_paper:
            parts.append(to_markdown(table))
        if self.about_paper:
            parts.append(self.about_paper)
        if self.comparisons:
            parts.append("## Against classification, paired over held-out classes")
            parts.append(f"{PAIRED[0].upper()}{PAIRED[1:]}.")
            parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self.comparisons))
        return "\n\n".join(parts) + "\n"

    def html(self, drawn: Mapping[str, bytes]) -> str:
        """Return the report as a page of its own, given the figures' files by name."""
        return page(self.head, page_sections(self, drawn))

    def latex(self) -> str:
        r"""Return all tables for \input into a document with the packages booktabs and graphicx."""
        tables = [
            *(table for tables in self.tables for table in tables),
            *([self.taken_for] if self.taken_for else []),
        ]
        return "\n\n".join(to_latex(table) for table in [*tables, *self.beside_paper]) + "\n"


def make_report(ledger: Ledger, request: Request | None = None) -> Report:
    """Read the ledger; raise Mistake if there is no such sweep or all cells there are of another one.

    The commands that the report names have the request's options, or else the default ones.
    """
    results = collect(ledger)
    if results.strangers and not results.cell_files:
        raise Mistake(
            f"No cell in {ledger.uri}, which has {len(results.strangers)}, is of the sweep that its "
            "sweep.json describes: its specification or its data's fingerprint is not what it was. "
            "Restore the file from a copy; the report that is there stays as it is."
        )
    later = {final.cell.key: final.later_records for final in results.finals}
    verdict = check_leaks(results.cells.all(), results.cell_files, results.done, later)
    request = request or Request(storage=ledger.storage)
    return Report(results, verdict, _benchmark(results.specification), request)


def _benchmark(specification: Specification) -> Benchmark:
    """Return a sweep's benchmark; of a plug-in's, which a report does not execute, what the ledger says."""
    name = specification.benchmark
    if name not in specification.plugins:
        return find_benchmark(name)
    return Benchmark(name, "", specification.recipe, specification.methods, specification.lambda_trials)


def _mean_name(method: str, metric: str, what: str = "mean") -> str:
    """Return what MLflow calls a method's mean, or another statistic."""
    return f"{what}/{method.replace('+', '-')}/{metric}"


def _printed(tables: list[Table]) -> list[str]:
    """Return tables for the terminal, and the caption of the first, which holds for all."""
    return [*map(to_text, tables), *(_wrap(table.caption) for table in tables[:1])]


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

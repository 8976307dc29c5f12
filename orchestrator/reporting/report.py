"""A sweep's report: tables, sentences and figures, made from its ledger alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from orchestrator.cli.next_commands import resume_command, score_command, score_sets_command
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.spending import cost_metrics
from orchestrator.planning.cells import Cell
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.planning.versions import mixture
from orchestrator.reporting import search_sentences, sentences
from orchestrator.reporting.costs import Cost, cost_csv, total
from orchestrator.reporting.detector_table import detector_tables
from orchestrator.reporting.figures import draw_figures
from orchestrator.reporting.image_set_table import image_set_tables, wide_image_set_table
from orchestrator.reporting.journal import JOURNAL, studies_journal
from orchestrator.reporting.leak_check import Verdict, check_leaks
from orchestrator.reporting.main_table import WIDTH, main_tables, wide_table
from orchestrator.reporting.paper import Pair, Published, difference_tables, pair_with_paper, paper_tables
from orchestrator.reporting.results import BEGUN, DONE, Results, cells_csv, collect
from orchestrator.reporting.tables import Table, escape_markdown, to_csv, to_latex, to_markdown, to_text
from orchestrator.tracking.records import Summary
from search_spaces import find_benchmark
from search_spaces.benchmark import Benchmark
from trainables.data.named_images import NamedImages
from trainables.mistake import Mistake

PAIRED = "mean difference, 95% bootstrap interval, p of Wilcoxon's signed-rank test, uncorrected"


@dataclass(frozen=True)
class Report:
    """A sweep's results, ready to be printed and written."""

    results: Results
    verdict: Verdict
    benchmark: Benchmark
    request: Request
    """Where and how the sweep ran, for the commands that the report names."""

    @property
    def sound(self) -> bool:
        """Whether the leak firewall held; if it did not, no number counts."""
        return self.verdict.holds

    @property
    def missing(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell, state in self.results.states.items() if state != DONE]

    @property
    def failed(self) -> dict[Cell, int]:
        """The cells that have begun and are not done, with their numbers of attempts."""
        return {
            cell: self.results.attempts(cell) for cell, state in self.results.states.items() if state == BEGUN
        }

    @cached_property
    def _tables(self) -> tuple[list[Table], ...]:
        """The tables of the sweep's numbers: by held-out class, by detector, and of image sets."""
        found = self.results
        return main_tables(found), detector_tables(found), image_set_tables(found)

    @cached_property
    def text(self) -> str:
        """The report for a terminal."""
        parts = [self._head()]
        if not self.sound:
            parts.append(_wrap(self.verdict.sentence))
        for tables in self._tables:
            parts += _printed(tables)
        parts += ["\n".join(map(_wrap, self._sentences()))]
        parts += _printed(self._differences)
        if self._about_paper:
            parts.append(_wrap(self._about_paper))
        if self._comparisons:
            heading = f"Against classification, paired over held-out classes ({PAIRED}):"
            parts.append("\n".join([_wrap(heading), *(_wrap(f"- {s}", "  ") for s in self._comparisons)]))
        return "\n\n".join(parts)

    def _score_command(self, detectors: Iterable[str]) -> str:
        """Return the command that adds detectors to the finished cells."""
        return score_command(self.request, self.results.ledger.name, detectors)

    def _set_command(self, image_set: str) -> str:
        """Return the command that adds an image set to the finished cells."""
        asked = {each.name: each for each in self.results.asked_sets}
        named = asked.get(image_set, NamedImages(image_set, "PATH"))
        return score_sets_command(self.request, self.results.ledger.name, named)

    def _sentences(self) -> list[str]:
        """Return what is missing, the verdict, problems with lambda, and departures from the paper."""
        results = self.results
        return [
            sentences.missing(results, resume_command(self.request, results.ledger.name)),
            *sentences.damaged(results, resume_command(self.request, results.ledger.name)),
            *sentences.strangers(results),
            *sentences.lacking(results, self._score_command(results.incomplete)),
            self.verdict.sentence,
            *sentences.image_sets(results, self._set_command),
            *sentences.edited(results, self._score_command),
            *sentences.selection(results),
            *search_sentences.protocol(results.specification, self.benchmark),
            *search_sentences.certainty(results),
            *search_sentences.halving(results),
            *sentences.nothing_learned(results),
            *mixture(results.stored.made),
            *sentences.recipe_departures(results, self.benchmark),
            self.cost.sentence,
        ]

    @property
    def cost(self) -> Cost:
        """What the sweep took so far, lost work included."""
        return total(self.results.spent, self.request.price_per_gpu_hour)

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
                name = f"{method.replace('+', '-')}/{metric}"
                found[f"mean/{name}"] = estimate.mean
                if estimate.std is not None:
                    found[f"std/{name}"] = estimate.std
        return found | cost_metrics(self.cost.spending)

    def summary(self) -> Summary:
        """Return what MLflow is told of the sweep as a whole."""
        return Summary(self.summary_metrics(), self.compared, "\n\n".join(map(to_markdown, self._tables[0])))

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
        """The contents of tables (Markdown, LaTeX, CSV) and figures (PNG), by file name."""
        return {
            "table.md": self.markdown().encode(),
            "table.tex": self.latex().encode(),
            "table.csv": to_csv(wide_table(self.results)).encode(),
            "cells.csv": cells_csv(self.results).encode(),
            "cost.csv": self._cost_csv().encode(),
            **self._image_set_files(),
            **self._journal(),
            **draw_figures(self.results),
        }

    def _journal(self) -> dict[str, bytes]:
        journal = studies_journal(self.results)
        return {} if journal is None else {JOURNAL: journal}

    def _cost_csv(self) -> str:
        results = self.results
        return cost_csv(results.cells.all(), results.spent, self.request.price_per_gpu_hour)

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
        return f"Tables and figures: {where}"

    def markdown(self) -> str:
        """Return all tables and sentences as Markdown."""
        tables = [table for tables in self._tables for table in tables]
        parts = [f"# {self._head()}", *map(to_markdown, tables)]
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self._sentences()))
        if self._differences or self._about_paper:
            parts.append("## Beside the paper")
        for table in [*self._differences, *self._paper_tables]:
            parts.append(to_markdown(table))
        if self._about_paper:
            parts.append(self._about_paper)
        if self._comparisons:
            parts.append("## Against classification, paired over held-out classes")
            parts.append(f"{PAIRED[0].upper()}{PAIRED[1:]}.")
            parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self._comparisons))
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        r"""Return all tables for \input into a document with the package booktabs."""
        tables = [*(table for tables in self._tables for table in tables), *self._differences]
        return "\n\n".join(to_latex(table) for table in [*tables, *self._paper_tables]) + "\n"

    @cached_property
    def _paired_with_paper(self) -> tuple[list[Pair], list[Published]]:
        return pair_with_paper(self.results, self.benchmark)

    @cached_property
    def _differences(self) -> list[Table]:
        return difference_tables(self.results, self._paired_with_paper[0])

    @cached_property
    def _paper_tables(self) -> list[Table]:
        return paper_tables(self.results, self._paired_with_paper[0], self.benchmark)

    @cached_property
    def _about_paper(self) -> str:
        return sentences.about_paper(self.results, self.benchmark, *self._paired_with_paper)

    @cached_property
    def _comparisons(self) -> list[str]:
        return sentences.comparisons(self.results)

    def _head(self) -> str:
        ledger, total = self.results.ledger, len(self.results.states)
        return f"Sweep {ledger.name} in {ledger.storage}: {total - len(self.missing)} of {total} cells done"


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


def _printed(tables: list[Table]) -> list[str]:
    """Return tables for the terminal, and the caption of the first, which holds for all."""
    return [*map(to_text, tables), *(_wrap(table.caption) for table in tables[:1])]


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

"""A sweep's report: tables, sentences and figures, made from its ledger alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from orchestrator.cli.next_commands import (
    resume_command,
    score_command,
    score_sets_command,
    sweep_command,
)
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.spending import cost_metrics
from orchestrator.planning.cells import Cell
from orchestrator.planning.repeat import repeating_request
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.planning.versions import mixture
from orchestrator.reporting import figures, search_sentences, sentences
from orchestrator.reporting.costs import Cost, cost_csv, cost_table, total
from orchestrator.reporting.detector_table import detector_tables
from orchestrator.reporting.figures import draw_figures
from orchestrator.reporting.findings import findings
from orchestrator.reporting.image_set_table import image_set_tables, wide_image_set_table
from orchestrator.reporting.journal import JOURNAL, studies_journal
from orchestrator.reporting.leak_check import Verdict, check_leaks, opened_table
from orchestrator.reporting.main_table import WIDTH, main_tables, wide_table
from orchestrator.reporting.noticed import Sureness, noticed_table, noticed_tables, sureness
from orchestrator.reporting.page import Figure, Section, page
from orchestrator.reporting.paper import Pair, Published, difference_tables, pair_with_paper, paper_tables
from orchestrator.reporting.pictures import Galleries, galleries
from orchestrator.reporting.provenance_facts import provenance_facts
from orchestrator.reporting.results import BEGUN, DONE, Results, cells_csv, collect
from orchestrator.reporting.scored import Scores, read_scored
from orchestrator.reporting.tables import Table, escape_markdown, to_csv, to_latex, to_markdown, to_text
from orchestrator.reporting.taken_for import taken_for_table
from search_spaces import find_benchmark
from search_spaces.benchmark import Benchmark
from trainables.data.named_images import NamedImages
from trainables.mistake import Mistake, counted

T = TypeVar("T")

PAGE = "report.html"
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
        """The tables of the sweep's numbers: by held-out class, how sure, by detector, and of image sets."""
        found = self.results
        return (
            main_tables(found),
            noticed_tables(found, self._sureness),
            detector_tables(found),
            image_set_tables(found),
        )

    @cached_property
    def _scores(self) -> Scores:
        return read_scored(self.results)

    @cached_property
    def _sureness(self) -> list[Sureness]:
        return sureness(self.results, self._scores)

    @cached_property
    def findings(self) -> list[str]:
        """The verdict in words: what flags best, by how much, and what is no better than guessing."""
        return findings(self.results, self._sureness) if self.sound else []

    @cached_property
    def text(self) -> str:
        """The report for a terminal."""
        parts = [self._head()]
        if not self.sound:
            parts.append(_wrap(self.verdict.sentence))
        if self.findings:
            parts.append("\n".join(_wrap(f"- {sentence}", "  ") for sentence in self.findings))
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
        return [
            *self._missing_sentences,
            self.verdict.sentence,
            *self._scoring_sentences,
            *self._search_sentences,
            *self._doubts,
            *self._departures,
            self.cost.sentence,
        ]

    @cached_property
    def _missing_sentences(self) -> list[str]:
        results, command = self.results, resume_command(self.request, self.results.ledger.name)
        return [
            sentences.missing(results, command),
            *sentences.damaged(results, command),
            *sentences.strangers(results),
            *sentences.lacking(results, self._score_command(results.incomplete)),
        ]

    @cached_property
    def _scoring_sentences(self) -> list[str]:
        return [
            *sentences.image_sets(self.results, self._set_command),
            *sentences.edited(self.results, self._score_command),
        ]

    @cached_property
    def _search_sentences(self) -> list[str]:
        results = self.results
        return [
            *sentences.selection(results),
            *search_sentences.protocol(results.specification, self.benchmark),
            *search_sentences.certainty(results),
            *search_sentences.halving(results),
        ]

    @cached_property
    def _doubts(self) -> list[str]:
        return [*sentences.nothing_learned(self.results), *mixture(self.results.stored.made)]

    @cached_property
    def _departures(self) -> list[str]:
        return sentences.recipe_departures(self.results, self.benchmark)

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
        drawn = draw_figures(self.results, self._scores)
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
        if not self._sureness:
            return {}
        return {"noticed.csv": to_csv(noticed_table(self.results, self._sureness)).encode()}

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
        parts = [f"# {self._head()}"]
        if self.findings:
            parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self.findings))
        parts += map(to_markdown, tables)
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self._sentences()))
        if self._taken_for:
            parts.append(to_markdown(self._taken_for))
        if self._differences or self._about_paper:
            parts.append("## Beside the paper")
        for table in self._beside_paper:
            parts.append(to_markdown(table))
        if self._about_paper:
            parts.append(self._about_paper)
        if self._comparisons:
            parts.append("## Against classification, paired over held-out classes")
            parts.append(f"{PAIRED[0].upper()}{PAIRED[1:]}.")
            parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in self._comparisons))
        return "\n\n".join(parts) + "\n"

    def html(self, drawn: Mapping[str, bytes]) -> str:
        """Return the report as a page of its own, given the figures' files by name."""
        return page(self._head(), self._sections(drawn))

    def _sections(self, drawn: Mapping[str, bytes]) -> list[Section]:
        """Return the page's sections in their order; those without content are not shown."""
        results, label = self.results, f"tab:{self.results.ledger.name}"
        opened = opened_table(results.cells.all(), results.cell_files, f"{label}-opened")
        cells, price = results.cells.all(), self.request.price_per_gpu_hour
        shown = self._galleries
        chosen = "hyperparameters" if results.specification.search else "lambda"

        def section(title: str, *stems: str, **content: Any) -> Section:
            return Section(title, figures=self._figures(drawn, stems), **content)

        return [
            section(
                "Verdict", stands_out=True, items=[*self._warnings, *self.findings, *self._missing_sentences]
            ),
            section("Results", tables=self._wide_tables),
            section("Beside the paper", tables=self._beside_paper, closing=_some(self._about_paper)),
            section(
                "Against classification",
                paragraphs=_some(self._comparisons and f"{PAIRED[0].upper()}{PAIRED[1:]}."),
                items=self._comparisons,
            ),
            section("Average precision by held-out class", figures.AP_BY_CLASS),
            section("Learning curves", figures.LEARNING_CURVES, figures.CURVES_BY_CLASS),
            section("Precision and recall", figures.PRECISION_RECALL),
            section("Scores of kept and held-out images", figures.HISTOGRAMS),
            section(f"Choice of {chosen}", *self._search_figures, paragraphs=self._search_sentences),
            section("Accuracy and average precision", figures.ACCURACY_AGAINST_AP),
            section("What held-out images are taken for", tables=_some(self._taken_for)),
            section(
                "Most and least anomalous images",
                paragraphs=_some(shown and shown.about),
                galleries=shown.shown if shown else (),
            ),
            section("Departures from the paper", paragraphs=self._departures),
            section("Leak certificate", paragraphs=[self.verdict.sentence], tables=_some(opened)),
            section(
                "Cost",
                paragraphs=[self.cost.sentence],
                tables=[cost_table(cells, results.spent, price, f"{label}-cost")],
            ),
            section("Provenance", facts=provenance_facts(results)),
            self._repetition,
        ]

    @property
    def _wide_tables(self) -> list[Table]:
        """The tables of `_tables`, each in one, since a page can be moved sideways."""
        main, sure, by_detector, sets = self._tables
        return [
            *([wide_table(self.results)] if main else []),
            *([noticed_table(self.results, self._sureness)] if sure else []),
            *by_detector,
            *([wide_image_set_table(self.results)] if sets else []),
        ]

    @property
    def _warnings(self) -> list[str]:
        """What a reader must know before the numbers."""
        broken = [] if self.sound else [self.verdict.sentence]
        return [*broken, *self._doubts, *self._scoring_sentences]

    @property
    def _beside_paper(self) -> list[Table]:
        return [*self._differences, *self._paper_tables]

    @cached_property
    def _taken_for(self) -> Table | None:
        return taken_for_table(self.results, self._scores)

    @property
    def _search_figures(self) -> list[str]:
        methods = self.results.specification.methods
        return [f"{figures.search_stem(self.results)}-{method}" for method in methods]

    def _figures(self, drawn: Mapping[str, bytes], stems: Iterable[str]) -> list[Figure]:
        named = [(stem, f"{stem}.png") for stem in stems]
        return [Figure(drawn[n], figures.caption(self.results, stem)) for stem, n in named if n in drawn]

    @cached_property
    def _galleries(self) -> Galleries | None:
        """Images as the method scores them that has the highest AP by the first detector."""
        results = self.results
        methods = [m for m in results.specification.methods if any(m == method for method, _ in self._scores)]
        if not methods:
            return None
        first = {m: results.average(m, next(iter(results.metrics_of(m)))) for m in methods}
        method = max(methods, key=lambda m: found.mean if (found := first[m]) else 0.0)
        return galleries(results, self._scores, method, self.request.cache)

    @property
    def _repetition(self) -> Section:
        request = repeating_request(self.results.stored, self.results.ledger.storage)
        if request is not None:
            return Section("The command that repeats it", commands=[sweep_command(request)])
        command = resume_command(self.request, self.results.ledger.name)
        return Section("The command that goes on with it", commands=[command])

    def latex(self) -> str:
        r"""Return all tables for \input into a document with the package booktabs."""
        tables = [*(table for tables in self._tables for table in tables), *_some(self._taken_for)]
        return "\n\n".join(to_latex(table) for table in [*tables, *self._beside_paper]) + "\n"

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
        done = f"{total - len(self.missing)} of {counted(total, 'cell')} done"
        return f"Sweep {ledger.name} in {ledger.storage}: {done}"


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


def _some(found: T | None) -> list[T]:
    """Return a list of what is there: nothing, or one thing."""
    return [found] if found else []


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

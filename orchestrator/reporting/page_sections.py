"""The sections of a report's page, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from orchestrator.cli.next_commands import resume_command, sweep_command
from orchestrator.planning.repeat import repeating_request
from orchestrator.reporting import figures
from orchestrator.reporting.content import PAIRED, Content
from orchestrator.reporting.costs import cost_table
from orchestrator.reporting.image_set_table import wide_image_set_table
from orchestrator.reporting.leak_check import opened_table
from orchestrator.reporting.main_table import wide_table
from orchestrator.reporting.noticed import noticed_table
from orchestrator.reporting.page import Figure, Section
from orchestrator.reporting.pictures import Galleries, galleries
from orchestrator.reporting.provenance_facts import provenance_facts
from orchestrator.reporting.tables import Table

T = TypeVar("T")


def page_sections(content: Content, drawn: Mapping[str, bytes]) -> list[Section]:
    """Return the page's sections in their order; those without content are not shown."""
    results, label = content.results, f"tab:{content.results.ledger.name}"
    opened = opened_table(results.cells.all(), results.cell_files, f"{label}-opened")
    cells, price = results.cells.all(), content.request.price_per_gpu_hour
    shown = _galleries(content)
    chosen = "hyperparameters" if results.specification.search else "lambda"

    def section(title: str, *stems: str, **parts: Any) -> Section:
        return Section(title, figures=_figures(content, drawn, stems), **parts)

    return [
        section(
            "Verdict",
            stands_out=True,
            items=[*_warnings(content), *content.findings, *content.missing_sentences],
        ),
        section("Results", tables=_wide_tables(content)),
        section("Beside the paper", tables=content.beside_paper, closing=_some(content.about_paper)),
        section(
            "Against classification",
            paragraphs=_some(content.comparisons and f"{PAIRED[0].upper()}{PAIRED[1:]}."),
            items=content.comparisons,
        ),
        section("Average precision by held-out class", figures.AP_BY_CLASS),
        section("Learning curves", figures.LEARNING_CURVES, figures.CURVES_BY_CLASS),
        section("Precision and recall", figures.PRECISION_RECALL),
        section("Scores of kept and held-out images", figures.HISTOGRAMS),
        section(f"Choice of {chosen}", *_search_figures(content), paragraphs=content.search_sentences),
        section("Accuracy and average precision", figures.ACCURACY_AGAINST_AP),
        section("What held-out images are taken for", tables=_some(content.taken_for)),
        section(
            "Most and least anomalous images",
            paragraphs=_some(shown and shown.about),
            galleries=shown.shown if shown else (),
        ),
        section("Departures from the paper", paragraphs=content.departures),
        section("Leak certificate", paragraphs=[content.verdict.sentence], tables=_some(opened)),
        section(
            "Cost",
            paragraphs=[content.cost.sentence],
            tables=[cost_table(cells, results.spent, price, f"{label}-cost")],
        ),
        section("Provenance", facts=provenance_facts(results)),
        _repetition(content),
    ]


def _wide_tables(content: Content) -> list[Table]:
    """Return the content's tables, none of them in parts, since a page can be moved sideways."""
    main, sure, by_detector, sets = content.tables
    return [
        *([wide_table(content.results)] if main else []),
        *([noticed_table(content.results, content.sureness)] if sure else []),
        *by_detector,
        *([wide_image_set_table(content.results)] if sets else []),
    ]


def _warnings(content: Content) -> list[str]:
    """Return what a reader must know before the numbers."""
    broken = [] if content.sound else [content.verdict.sentence]
    return [*broken, *content.doubts, *content.scoring_sentences]


def _search_figures(content: Content) -> list[str]:
    methods = content.results.specification.methods
    return [f"{figures.search_stem(content.results)}-{method}" for method in methods]


def _figures(content: Content, drawn: Mapping[str, bytes], stems: Iterable[str]) -> list[Figure]:
    named = [(stem, f"{stem}.png") for stem in stems]
    return [Figure(drawn[n], figures.caption(content.results, stem)) for stem, n in named if n in drawn]


def _galleries(content: Content) -> Galleries | None:
    """Return images as the method scores them that has the highest AP by the first detector."""
    results = content.results
    methods = [m for m in results.specification.methods if any(m == method for method, _ in content.scores)]
    if not methods:
        return None
    first = {m: results.average(m, next(iter(results.metrics_of(m)))) for m in methods}
    method = max(methods, key=lambda m: found.mean if (found := first[m]) else 0.0)
    return galleries(results, content.scores, method, content.request.cache)


def _repetition(content: Content) -> Section:
    request = repeating_request(content.results.stored, content.results.ledger.storage)
    if request is not None:
        return Section("The command that repeats it", commands=[sweep_command(request)])
    command = resume_command(content.request, content.results.ledger.name)
    return Section("The command that goes on with it", commands=[command])


def _some(found: T | None) -> list[T]:
    """Return a list of what is there: nothing, or one thing."""
    return [found] if found else []

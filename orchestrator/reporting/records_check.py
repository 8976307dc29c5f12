"""MLflow's records of a sweep beside its ledger: disagreements as findings, and what mends them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli.next_commands import rebuild_command, repair_command, resume_command
from orchestrator.reporting.report import Report
from orchestrator.reporting.verification import Finding, Findings
from orchestrator.tracking import agreement
from orchestrator.tracking.agreement import Disagreement
from orchestrator.tracking.uris import resolve_tracking_uri
from trainables.mistake import counted

NAMED = 5
"""Most disagreements of a kind that have a sentence of their own."""


def check_records(report: Report, findings: Findings, *, whole: bool, driven: bool) -> int:
    """Add what MLflow has otherwise than the ledger says; return how many runs it has of the sweep.

    The sweep's own run is compared if the ledger is whole and every cell is done. Raise Mistake if MLflow
    cannot be read.
    """
    results, request = report.results, report.request
    uri = resolve_tracking_uri(request.tracking_uri, request.storage)
    summary = report.summary_metrics() if whole and not report.missing else None
    found = agreement.compare(
        uri, results.ledger, results.specification, results.cells.all(), summary, driven=driven
    )
    by_kind: dict[str, list[Disagreement]] = {}
    for each in found.disagreements:
        by_kind.setdefault(each.kind, []).append(each)
    unknown = by_kind.pop(agreement.UNKNOWN, [])
    if unknown:
        names = _listed([each.label for each in unknown])
        findings.notes.append(
            f"MLflow has {counted(len(unknown), 'run')} of cells that are not planned: {names}."
        )
    rebuild = rebuild_command(request, results.ledger.name)
    commands = {
        agreement.TWINS: repair_command(request, results.ledger.name),
        agreement.STATUS: resume_command(request, results.ledger.name) if report.missing else rebuild,
    }
    for kind, disagreements in by_kind.items():
        command = commands.get(kind, rebuild)
        for sentence in _sentences(kind, disagreements):
            findings.found.append(Finding(f"mlflow-{kind}", sentence, command, in_tracking=True))
    findings.points = found.points
    return found.runs


def _sentences(kind: str, found: Sequence[Disagreement]) -> list[str]:
    """Return a sentence for each disagreement or, for many of a kind, one for those that have none."""
    if kind == agreement.MISSING and len(found) > 1:
        labels = _listed([each.label for each in found])
        return [f"MLflow has no run of {len(found)} of the cells that are done: {labels}."]
    said = [_sentence(kind, each) for each in found[:NAMED]]
    more = len(found) - len(said)
    return [*said, f"The same holds for {more} more of MLflow's runs."] if more else said


def _sentence(kind: str, each: Disagreement) -> str:
    if kind == agreement.MISSING:
        return f"MLflow has no run of {each.label}."
    if kind == agreement.TWINS:
        return f"MLflow has {each.words} of {each.label}, which should have one."
    if kind == agreement.STATUS:
        return f"MLflow's run of {each.label} is {each.words}."
    if kind == agreement.SURPLUS:
        return f"MLflow's run of {each.label} holds what the ledger does not: {each.words}."
    return f"MLflow's run of {each.label} differs from the ledger: {each.words}."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more

"""`python -m orchestrator.verify`: check that a sweep's ledger is whole and true, and that MLflow agrees.

Every cell of the plan is there once; every file is as it was written; numbers follow from the scores; the
leak firewall held; lambda is what the searches choose; MLflow has one run per cell with the same numbers.
Exit codes: 0 nothing is wrong; 1 something is; 2 a mistake in what was asked. Neither torch nor Ray is
imported. Nothing is written without --repair.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from orchestrator.cli.next_commands import rebuild_command, resume_command
from orchestrator.cli.parser import run_command
from orchestrator.cli.verify_options import VerifyRequest, read_request
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.ledger.owner import owner_of
from orchestrator.ledger.storage import unreadable
from orchestrator.reporting.records_check import check_records
from orchestrator.reporting.report import Report, make_report
from orchestrator.reporting.verification import Finding, Findings, verify_ledger
from orchestrator.tracking.tracker import open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri
from trainables.mistake import Mistake, counted


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    request = read_request(words)
    ledger = Ledger(request.places.storage, request.name)
    try:
        if not request.repair:
            return _verify(request, ledger)
        if not ledger.has_folder():
            ledger.read_sweep()  # which says that there is no such sweep, where a lock would make its folder
        with hold(ledger) as held:
            return _verify(request, held.ledger)
    except OSError as error:
        raise unreadable(request.places.storage, error) from None


def _verify(request: VerifyRequest, ledger: Ledger) -> int:
    owner = None if request.repair else owner_of(ledger)
    driven = owner is not None and not owner.silent
    try:
        report = make_report(ledger, request.places)
    except Mistake as mistake:
        if ledger.sweep_damage() is None:
            raise
        finding = Finding("damaged", str(mistake))  # which says what to do
        print(
            json.dumps({"findings": [dataclasses.asdict(finding)]}) if request.as_json else finding.sentence
        )
        return 1
    findings = verify_ledger(report, driven=driven)
    runs = None
    if request.tracking:
        runs = check_records(report, findings, whole=not findings.found, driven=driven)
    else:
        findings.notes.append("MLflow was left out.")
    repaired = _repair(request, report, findings) if request.repair and findings.found else []
    if request.as_json:
        print(json.dumps(_as_json(report, findings, runs, repaired), indent=1))
    else:
        print(_as_text(report, findings, runs, repaired))
    return 1 if findings.found else 0


def _repair(request: VerifyRequest, report: Report, findings: Findings) -> list[str]:
    """Move aside what is damaged and put MLflow's runs right; return what was done, in sentences."""
    ledger = report.results.ledger
    damages = dict.fromkeys(each for finding in findings.found for each in finding.damages)
    for damage in damages:
        ledger.set_aside(damage)
    said = []
    if damages:
        said.append(f"Moved aside into {ledger.uri}/damaged: {counted(len(damages), 'file')}.")
    if any(damage.key for damage in damages):
        said.append(f"Make the cells again with: {resume_command(request.places, ledger.name)}")
    if request.tracking and any(finding.in_tracking for finding in findings.found):
        uri = resolve_tracking_uri(request.places.tracking_uri, request.places.storage)
        tracker = open_tracker(uri, ledger, report.results.specification, report.results.cells.all())
        if tracker is not None:
            tracker.close(timeout=60)
            rebuild = rebuild_command(request.places, ledger.name)
            said.append(
                f"MLflow has no more than one run of each cell now; the numbers follow with: {rebuild}"
            )
    return said or ["Nothing of it is mended by moving files aside."]


def _as_text(report: Report, findings: Findings, runs: int | None, repaired: list[str]) -> str:
    results = report.results
    name, done, cells = results.ledger.name, len(results.done), len(results.states)
    notes = [f"Note: {note}" for note in findings.notes]
    if not findings.found:
        agrees = (
            "" if runs is None else f", MLflow's {counted(runs, 'run')} agree in {findings.points} values"
        )
        return "\n".join(
            [
                f"All is well with sweep {name}: {done} of {counted(cells, 'cell')} are done and there once, "
                f"{counted(findings.files, 'file')} are as they were written, "
                f"{counted(findings.numbers, 'number')} came out again, the leak firewall holds{agrees}.",
                *notes,
            ]
        )
    lines = [f"{counted(len(findings.found), 'finding')} in sweep {name}, {done} of {cells} cells done:"]
    lines += [f"- {finding.sentence}" for finding in findings.found]
    mended = _commands(findings.found).items()
    lines += [f"{counted(count, 'finding')} mended by: {command}" for command, count in mended]
    return "\n".join([*lines, *notes, *repaired])


def _commands(found: list[Finding]) -> dict[str, int]:
    """Return how many findings each command mends."""
    counts: dict[str, int] = {}
    for finding in found:
        if finding.command is not None:
            counts[finding.command] = counts.get(finding.command, 0) + 1
    return counts


def _as_json(report: Report, findings: Findings, runs: int | None, repaired: list[str]) -> dict[str, object]:
    results = report.results
    return {
        "name": results.ledger.name,
        "cells": len(results.states),
        "done": len(results.done),
        "files": findings.files,
        "numbers": findings.numbers,
        "runs": runs,
        "points": findings.points,
        "findings": [dataclasses.asdict(finding) for finding in findings.found],
        "notes": findings.notes,
        "repaired": repaired,
    }


if __name__ == "__main__":
    sys.exit(main())

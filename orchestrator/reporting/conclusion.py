"""The end of a sweep: its report, where to find its records, and the cells that failed."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.cli.next_commands import rebuild_command, resume_command, ui_command, verify_command
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.storage import reason
from orchestrator.planning.plan import Plan
from orchestrator.planning.request import Request
from orchestrator.reporting.report import Report, make_report
from orchestrator.tracking.tracker import Tracker
from trainables.mistake import counted


def conclude(request: Request, ledger: Ledger, plan: Plan, tracker: Tracker | None) -> int:
    """Print the report and what to do next; return the exit code, 0 if every cell is done, else 1."""
    report = show_report(request, ledger, tracker)
    if report is None:
        return 1
    failures = plan.failures()
    if not failures and plan.blocked():
        print(
            f"{counted(len(plan.blocked()), 'cell')} cannot be run, since search cells ended otherwise than "
            f"the values of their study decide. What to do about it: {verify_command(request, ledger.name)}"
        )
        return 1
    if not failures:
        return 0 if report.sound else 1
    print(f"{counted(len(failures), 'cell')} failed on every attempt:")
    for cell, said in failures.items():
        print(f"  {cell.label}: {said}")
    if plan.blocked():
        print(
            f"Waiting for them: {counted(len(plan.blocked()), 'cell')}, since a search that is not complete "
            "chooses nothing."
        )
    print(f"Try them again with: {resume_command(request, ledger.name)}")
    return 1


def show_report(
    request: Request, ledger: Ledger, tracker: Tracker | None, timeout: float = 60.0
) -> Report | None:
    """Print and write a sweep's report, and send what is left to send to MLflow.

    What MLflow has not taken is left if it takes nothing for `timeout` seconds. Returns None, and says so, if
    the storage does not answer.
    """
    rebuild = rebuild_command(request, ledger.name)
    try:
        report = make_report(ledger, request)
        files = report.write()
    except OSError as error:
        print(
            f"The storage does not answer ({reason(error)}), so there is no report; what is done is "
            f"not lost. Once it does: {rebuild}"
        )
        return None
    print(f"\n{report.text}\n")
    print(report.whereabouts)
    _point_to_records(tracker, report, files, rebuild, timeout)
    return report


def _point_to_records(
    tracker: Tracker | None, report: Report, files: Mapping[str, bytes], rebuild: str, timeout: float
) -> None:
    """Send the summary and print where MLflow shows the records; `rebuild` is the command to rewrite them."""
    if tracker is None:
        print(f"MLflow is not installed here, so nothing was recorded in it; where it is: {rebuild}")
        return
    tracker.summarise(report.summary(), files, finished=not report.missing)
    complete = tracker.close(timeout, patient=True)
    for line in tracker.put_right():
        print(line)
    if not complete:
        print(f"The tracking server does not answer; write its records once it does, with: {rebuild}")
        return
    if tracker.refusals:
        print(
            f"MLflow refused {len(tracker.refusals)} records ({tracker.refusals[0]}); "
            f"try again with: {rebuild}"
        )
    print("\n".join(tracker.where_to_compare(ui_command(report.request, report.results.ledger.name))))

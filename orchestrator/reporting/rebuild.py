"""Rebuild a sweep's records in MLflow from its ledger."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping

from orchestrator.cli.next_commands import ui_command
from orchestrator.ledger.lock import hold
from orchestrator.planning.request import Request
from orchestrator.reporting.report import Report
from orchestrator.tracking.tracker import Tracker, open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri
from trainables.mistake import Mistake


@contextlib.contextmanager
def connected(report: Report, request: Request) -> Iterator[Tracker]:
    """Hold the sweep's lock, since only one process writes to MLflow, and yield a connected tracker.

    Raise Mistake if a driver is at work on the sweep, or if MLflow is not installed or does not answer.
    """
    uri, results = resolve_tracking_uri(request.tracking_uri, request.storage), report.results
    with hold(results.ledger) as held:
        tracker = open_tracker(uri, held.ledger, results.specification, results.cells.all())
        if tracker is None:
            raise Mistake(
                "--rebuild-tracking needs MLflow, which is not installed here: install the project as its "
                "README.md says, or leave the option out."
            )
        yield tracker


def rebuild(tracker: Tracker, report: Report, files: Mapping[str, bytes]) -> bool:
    """Write the sweep's records again; return whether the tracking server took them all."""
    count = tracker.rebuild()
    tracker.summarise(report.summary(), files, finished=not report.missing)
    complete = tracker.close(timeout=60, patient=True)
    for line in tracker.put_right():
        print(line)
    if not complete:
        print("The tracking server does not answer; give this command again once it does.", file=sys.stderr)
        return False
    if tracker.refusals:
        print(f"MLflow refused {len(tracker.refusals)} records ({tracker.refusals[0]}).", file=sys.stderr)
        return False
    print(f"MLflow's records of {count} cells are rebuilt.")
    print("\n".join(tracker.where_to_compare(ui_command(report.request, report.results.ledger.name))))
    return True

"""Rebuild a sweep's records in MLflow from its ledger."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from orchestrator.planning.request import Request
from orchestrator.reporting.report import Report
from orchestrator.tracking.tracker import Tracker, open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri
from trainables.mistake import Mistake


def connect(report: Report, request: Request) -> Tracker:
    """Return a connected tracker; raise Mistake if MLflow is not installed or does not answer."""
    uri, results = resolve_tracking_uri(request.tracking_uri, request.storage), report.results
    tracker = open_tracker(uri, results.ledger, results.specification, results.cells.all())
    if tracker is None:
        raise Mistake(
            "--rebuild-tracking needs MLflow, which is not installed here: install the project as its "
            "README.md says, or leave the option out."
        )
    return tracker


def rebuild(tracker: Tracker, report: Report, files: Mapping[str, bytes]) -> bool:
    """Write the sweep's records again; return whether the tracking server took them all."""
    count = tracker.rebuild()
    tracker.summarise(report.summary_metrics(), files, finished=not report.missing)
    if not tracker.close(timeout=60):
        print("The tracking server does not answer; give this command again once it does.", file=sys.stderr)
        return False
    if tracker.refusals:
        print(f"MLflow refused {len(tracker.refusals)} records ({tracker.refusals[0]}).", file=sys.stderr)
        return False
    print(f"MLflow's records of {count} cells are rebuilt. Compare them:  {tracker.ui_command()}")
    print(f"then open:  {tracker.comparison_address(report.compared)}")
    return True

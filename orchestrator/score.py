"""`python -m orchestrator.score`: add detectors to a sweep's finished cells, without training.

Exit codes: 0 every finished final cell has the detectors; 1 a detector failed or could not be added to some
cell, or the leak firewall did not hold; 2 a mistake in what was asked, said before any work; 128 and
its number after a signal. torch is imported only for valid requests.
"""

from __future__ import annotations

import sys

from orchestrator.cli.parser import run_command
from orchestrator.cli.score_options import read_request
from orchestrator.cli.signals import exit_code, say
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.ledger.storage import StorageAway, no_answer
from orchestrator.planning.plugins import Plugin, keep, load, load_with_stored
from orchestrator.planning.request import Request, check_detectors, read_plugins
from orchestrator.planning.specification import StoredSweep, check_sources, read_stored
from orchestrator.reporting.conclusion import show_report
from orchestrator.tracking.tracker import open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri

SECONDS_PER_RECORD = 2.0
"""How long a tracking server that answers may take for one cell."""


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    request = read_request(words)
    try:
        ledger = Ledger(request.storage, str(request.name))
        stored = read_stored(ledger)
        plugins = load_with_stored(read_plugins(request), ledger)
        check_detectors(request.detectors)
        check_sources(load(plugins), stored.specification, ledger.name)
        return _run(request, ledger, stored, plugins)
    except StorageAway as error:
        raise no_answer(request.storage, error) from None
    except KeyboardInterrupt as interrupt:
        say("Stopped. Nothing that was scored is lost; the same command goes on.")
        return exit_code(interrupt)


def _run(request: Request, ledger: Ledger, stored: StoredSweep, plugins: tuple[Plugin, ...]) -> int:
    # Imported here since torch takes seconds, for which --help and mistyped options need not wait.
    from orchestrator.execution.later_scores import LaterScoring
    from orchestrator.execution.later_sets import LaterSets

    with hold(ledger) as held:
        ledger = held.ledger
        scoring = LaterScoring(request, ledger, stored)
        sets = LaterSets(request, ledger, stored, scoring)
        keep(plugins, ledger)
        sets.keep()
        uri = resolve_tracking_uri(request.tracking_uri, request.storage)
        tracker = open_tracker(uri, ledger, stored.specification, scoring.cells)
        failures = [*scoring.run(), *sets.run()]
        touched = dict.fromkeys([*scoring.scored, *sets.scored])
        if tracker is not None:
            for key in touched:
                tracker.rescored(key)
        timeout = 60 + SECONDS_PER_RECORD * len(touched)
        report = show_report(request, ledger, tracker, timeout)
    if failures:
        print("\n".join(["Not scored:", *(f"  {failure}" for failure in failures)]))
    return 0 if report is not None and report.sound and not failures else 1


if __name__ == "__main__":
    sys.exit(main())

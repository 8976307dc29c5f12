"""`python -m orchestrator.sweep`: plan a sweep, select lambda, run the cells and report.

Exit codes: 0 every cell is done; 1 some cells failed, or the leak firewall did not hold; 2 a mistake in what
was asked, said before any work; 130 interrupted.
"""

from __future__ import annotations

import sys

from orchestrator.cli.next_commands import resume_command
from orchestrator.cli.parser import INTERRUPTED, run_command
from orchestrator.cli.sweep_options import read_request
from orchestrator.ledger.storage import StorageAway, no_answer
from orchestrator.planning.dry_run import describe_plan, look_ahead
from orchestrator.planning.request import Draft, Request, draft


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda given: carry_out(read_request(given)), words)


def carry_out(request: Request) -> int:
    """Plan, run and report what is asked for, and return the exit code; raise Mistake before any work."""
    try:
        resolved = None if request.goes_on_as_it_was else draft(request)
        if not request.dry_run:
            return _run(request, resolved)
        specification, images, settings = look_ahead(request, resolved)
        print(describe_plan(specification, request.name, images, settings))
    except StorageAway as error:
        raise no_answer(request.storage, error) from None
    except KeyboardInterrupt:
        print("Stopped before any cell began.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(request: Request, resolved: Draft | None) -> int:
    # Imported here since they take seconds, for which --help, --dry-run and a mistyped option do not wait.
    from orchestrator.execution.driver import opened
    from orchestrator.reporting.conclusion import conclude

    with opened(request, resolved) as driver:
        ledger = driver.sweep.ledger
        try:
            driver.run()
        except KeyboardInterrupt:
            command = resume_command(request, ledger.name)
            print(f"Stopped. Nothing that was done is lost; go on with: {command}", flush=True)
            return INTERRUPTED
        finally:
            driver.stop()
        return conclude(request, ledger, driver.plan, driver.tracker)


if __name__ == "__main__":
    sys.exit(main())

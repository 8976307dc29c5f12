"""`python -m orchestrator.sweep`: plan a sweep, select lambda, run the cells and report.

Exit codes: 0 every cell is done; 1 some cells failed, or the leak firewall did not hold; 2 a mistake in what
was asked, said before any work; 128 and its number after a signal (130 for Ctrl-C).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.cli.parser import run_command
from orchestrator.cli.process_list import hide_passwords
from orchestrator.cli.signals import exit_code, say
from orchestrator.cli.steps import step
from orchestrator.cli.supervisor import supervised
from orchestrator.execution.interruption import GRACE_SECONDS

# The rest is imported in functions: a command forks before it imports what takes long or starts threads.
if TYPE_CHECKING:
    from orchestrator.planning.forecast import Outlook
    from orchestrator.planning.request import Draft, Request

Read = Callable[[list[str] | None], "Request"]
Command = Callable[[list[str] | None], int]


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Without `words` they are those of this process, which then looks after one that does the work.
    """
    return run(_read, words)


def run(read: Read, words: list[str] | None, command: Command | None = None) -> int:
    """Carry out the request that a command line is read as, and return the exit code.

    A `command` does so for several sweeps, whose storage and records are those of the request.
    """
    command = command or (lambda given: carry_out(read(given)))
    if words is not None:
        return run_command(command, words)
    hide_passwords()

    def close_records(name: str) -> None:
        from orchestrator.execution.driver import close_records

        close_records(read(None), name)

    def work() -> int:
        return run_command(command, None)

    return supervised(work, grace=GRACE_SECONDS, afterwards=close_records)


def _read(words: list[str] | None) -> Request:
    from orchestrator.cli.sweep_options import read_request

    return read_request(words)


def carry_out(request: Request) -> int:
    """Plan, run and report what is asked for, and return the exit code; raise Mistake before any work."""
    from orchestrator.cli.config_file import config_text
    from orchestrator.ledger.storage import StorageAway, no_answer
    from orchestrator.planning.dry_run import describe_plan
    from orchestrator.planning.request import draft
    from orchestrator.reporting.outlook import describe

    try:
        resolved = None if request.goes_on_as_it_was else draft(request)
        if request.write_config:
            print(config_text(request), end="")
            return 0
        if not request.dry_run and request.probe is None:
            return _run(request, resolved)
        outlook = look_out(request, resolved)
        if request.dry_run:
            what = (outlook.specification, request.name, outlook.images, outlook.settings)
            print(describe_plan(*what, probed=request.probe is not None))
        if outlook.expected is not None:
            said = describe(outlook.expected, outlook.specification, request.price_per_gpu_hour)
            print(f"\n{said}" if request.dry_run else said, flush=True)
        if not request.dry_run:
            return _run(request, resolved)
    except StorageAway as error:
        raise no_answer(request.storage, error) from None
    except KeyboardInterrupt as interrupt:
        say("Stopped before any cell began.")
        return exit_code(interrupt)
    return 0


def look_out(request: Request, resolved: Draft | None) -> Outlook:
    """Return what a sweep will be and take, from its plan alone or, if that is asked for, from a probe.

    The former opens no image, the latter prepares the data if it was not. Raise Mistake for what cannot be.
    """
    from orchestrator.execution.resources import expected_at_once
    from orchestrator.planning.costs import Images
    from orchestrator.planning.dry_run import look_ahead
    from orchestrator.planning.forecast import Outlook, from_flops, from_probe

    if request.probe is not None:
        from orchestrator.execution.probe import probe

        sweep, prepared, measured = probe(request, resolved)
        images = Images.of_counts(prepared.classes, prepared.counts, prepared.channels)
        expected = from_probe(sweep.specification, images, sweep.settings, measured)
        return Outlook(sweep.specification, images, sweep.settings, expected)
    specification, known, settings = look_ahead(request, resolved)
    if known is None:
        return Outlook(specification, None, settings, None)
    at_once = expected_at_once(request, specification)
    return Outlook(specification, known, settings, from_flops(specification, known, settings, at_once))


def _run(request: Request, resolved: Draft | None) -> int:
    with step("Loading PyTorch" if request.executor == "inline" else "Loading PyTorch and Ray"):
        from orchestrator.cli.next_commands import rebuild_command, resume_command
        from orchestrator.execution.driver import opened
        from orchestrator.ledger.lock import LockLost
        from orchestrator.reporting.conclusion import conclude

    with opened(request, resolved) as driver:
        ledger = driver.sweep.ledger
        try:
            driver.run()
        except LockLost:
            raise  # which says what to do
        except KeyboardInterrupt as interrupt:
            driver.stop()
            say(f"Stopped. Nothing that was done is lost; go on with: {resume_command(request, ledger.name)}")
            return exit_code(interrupt)
        except BaseException:
            driver.stop()
            raise
        try:
            return conclude(request, ledger, driver.plan, driver.tracker)
        except KeyboardInterrupt as interrupt:
            say(f"Stopped before the report was complete: {rebuild_command(request, ledger.name)}")
            return exit_code(interrupt)


if __name__ == "__main__":
    sys.exit(main())

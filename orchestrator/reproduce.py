"""`python -m orchestrator.reproduce`: run the sweeps that a table of the paper needs, and assemble the table.

The same command goes on where it was stopped. A sweep that fails is said, and the others go on. Exit codes: 0
every number of the table is there; 1 some are missing, which the table names; 2 a mistake in what was asked;
128 and its number after a signal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orchestrator.sweep import carry_out, look_out, run

# The rest is imported in functions: a command forks before it imports what takes long or starts threads.
if TYPE_CHECKING:
    from orchestrator.cli.reproduce_options import Reproduction
    from orchestrator.planning.request import Request

SIGNALLED = 128
"""Exit codes above it are those of signals."""


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(lambda given: _read(given).asked, words, _command)


def _command(words: list[str] | None) -> int:
    from orchestrator.ledger.storage import StorageAway, no_answer

    wanted = _read(words)
    try:
        return _reproduce(wanted)
    except StorageAway as error:
        raise no_answer(wanted.asked.storage, error) from None


def _read(words: list[str] | None) -> Reproduction:
    from orchestrator.cli.reproduce_options import read_reproduction
    from orchestrator.reporting.reproduction import tables

    return read_reproduction(words, tables())


def _reproduce(wanted: Reproduction) -> int:
    """Run a table's sweeps in order and assemble it; raise Mistake, before any work, for what cannot be."""
    from orchestrator.ledger.ledger import write_reproduction
    from orchestrator.planning.request import draft
    from orchestrator.reporting.reproduction import assembled, check_sets, parts, request_of

    check_sets(wanted.table, wanted.asked.ood)
    requests: list[Request] = []
    failed: dict[str, str] = {}
    for part in parts(wanted.table):
        request = request_of(part, wanted.asked, wanted.prefix)
        if request is None:
            failed[part.name(wanted.prefix)] = f"name its images with --ood {part.image_set}=PATH"
        else:
            draft(request)
            requests.append(request)
    if wanted.asked.dry_run:
        print(_outlook(requests, failed))
        return 0
    for place, request in enumerate(requests, 1):
        print(f"\nSweep {place} of {len(requests)} for table {wanted.table}: {request.name}", flush=True)
        code, said = _run(request)
        if code > SIGNALLED:
            print(f"Table {wanted.table} is not complete; the same command goes on with it.")
            return code
        if code:
            failed[str(request.name)] = said
    text, whole = assembled(wanted.table, wanted.prefix, wanted.asked.storage, failed)
    place_of_table = write_reproduction(wanted.asked.storage, wanted.table, text.encode())
    print(f"\n{text}\nThe table: {place_of_table}")
    return 0 if whole else 1


def _run(request: Request) -> tuple[int, str]:
    """Run a sweep, or go on with it; return its exit code, and what to say of it if that is not 0."""
    from orchestrator.cli.next_commands import verify_command
    from trainables.mistake import Mistake

    try:
        code = carry_out(request)
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr, flush=True)
        return 2, str(mistake).rstrip(".")
    return code, f"see {verify_command(request, str(request.name))}"


def _outlook(requests: list[Request], failed: dict[str, str]) -> str:
    """Return each sweep's command, cells, cost, time and storage, and their sums."""
    from orchestrator.cli.next_commands import sweep_command
    from orchestrator.planning.dry_run import readable
    from orchestrator.planning.forecast import Range
    from orchestrator.planning.request import draft
    from orchestrator.reporting.outlook import clock, describe, hours
    from trainables.mistake import counted

    lines: list[str] = []
    total, wall, flops, cells, kept = Range(0, 0), Range(0, 0), 0, 0, 0
    for request in requests:
        outlook = look_out(request, draft(request))
        lines += [f"{request.name}: {counted(outlook.cells, 'cell')}, {readable(outlook.flops or 0)}"]
        lines += [f"  {sweep_command(request)}"]
        cells += outlook.cells
        if outlook.expected is None:
            lines += ["  What it costs is not known without its data."]
            continue
        said = describe(outlook.expected, outlook.specification, request.price_per_gpu_hour)
        lines += [f"  {line.strip()}" for line in said.splitlines()]
        flops, kept = flops + (outlook.flops or 0), kept + outlook.expected.storage.kept
        total, wall = total.plus(outlook.expected.hours), wall.plus(outlook.expected.wall)
    lines += [f"{name}: not run; {why}" for name, why in failed.items()]
    lines.append(
        f"In all {counted(cells, 'cell')}, {readable(flops)}, {hours(total)} hours of GPUs or CPUs, "
        f"{clock(wall)}, about {readable(kept, 'B')} (a dry run: nothing runs)."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

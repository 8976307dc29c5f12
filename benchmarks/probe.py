"""What --probe expects of a sweep, against what the sweep then takes.

    python benchmarks/probe.py [--rounds 1] [--seconds 20] [SWEEP OPTIONS]
    python benchmarks/probe.py cifar10 --data DIR --holdouts cat dog --set depth=10 width=1 epochs=3

With --executor inline the seconds of a CPU that the attempts had are compared as well: other work on the
machine disturbs them less.

Each round probes and then runs the sweep, with the same options. Hours are those of the attempts' records in
the ledger; time on the clock is the command's, from start to exit. On a machine that others use, too, both
should meet the same load, so that is printed before, between and after.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from orchestrator.cli.sweep_options import read_request
from orchestrator.ledger.ledger import Ledger, sweeps_in
from orchestrator.ledger.spending import Spending, spending
from orchestrator.planning.forecast import Expected, Range
from orchestrator.planning.request import draft
from orchestrator.planning.specification import read_stored
from orchestrator.reporting.costs import assumed_usage
from orchestrator.sweep import look_out

COUNTED = """
import sys, time
from orchestrator.execution import inline
attempt, used = inline.run_attempt, []
def counted(*arguments, **named):
    before = time.process_time()
    try:
        return attempt(*arguments, **named)
    finally:
        used.append(time.process_time() - before)
inline.run_attempt = counted
from orchestrator.sweep import main
code = main(sys.argv[1:])
print("CPU", sum(used))
sys.exit(code)
"""
"""A sweep in one process that says, at last, how many seconds of a CPU its attempts had."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", default="20", help="how long the probe measures")
    given, words = parser.parse_known_args()
    print(f"{os.cpu_count()} cores; options: {' '.join(words) or 'none'}")
    for _ in range(given.rounds):
        compare(words, given.seconds)


def compare(words: list[str], seconds: str) -> None:
    """Probe and run a sweep, and print what was expected beside what it took."""
    load = [os.getloadavg()[0]]
    expected, share = probed([*words, "--probe", seconds])
    load.append(os.getloadavg()[0])
    hours, wall, cpu = ran(words)
    load.append(os.getloadavg()[0])
    print(
        f"load (1 min) {', '.join(f'{each:.1f}' for each in load)}; "
        f"the probe had its CPU {share:.0%} of the time"
    )
    attempts = expected.hours.times(3600)
    rows = [("attempts", attempts, 3600 * hours), ("wall", expected.wall, wall)]
    rows += [] if cpu is None else [("CPU seconds", Range(attempts.low, attempts.high * share), cpu)]
    for what, found, true in rows:
        print(
            f"{what:<12}{found.low:9.1f} to {found.high:9.1f} s, true {true:9.1f} s: {verdict(found, true)}"
        )
    sys.stdout.flush()


def verdict(found: Range, true: float) -> str:
    """Return where in a range a value lies: -100% at its lower end, 100% at its upper one."""
    middle, half = (found.low + found.high) / 2, (found.high - found.low) / 2
    inside = "inside" if found.low <= true <= found.high else "OUTSIDE"
    return f"{inside}, {true / middle - 1:+.0%} of the middle, which is +-{half / middle:.0%}"


def probed(words: list[str]) -> tuple[Expected, float]:
    """Return what is expected of a sweep, and the share of the time in which the probe had its CPU."""
    request = read_request(words)
    found = look_out(request, draft(request)).expected
    assert found is not None
    assert found.measured is not None
    for (phase, method), pace in found.measured.paces.items():
        print(f"  {phase} {method}: {pace}")
    return found, found.measured.share


def ran(words: list[str]) -> tuple[float, float, float | None]:
    """Return the hours of a sweep's attempts, its seconds on the clock, and those of a CPU if inline."""
    with tempfile.TemporaryDirectory() as storage:
        began, inline = time.time(), "inline" in words
        how = ["-c", COUNTED] if inline else ["-m", "orchestrator.sweep"]
        line = [sys.executable, *how, *words, "--storage", storage]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.time() - began
        (name,) = sweeps_in(storage)
        ledger = Ledger(storage, name)
        usage = assumed_usage(read_stored(ledger).specification)
        records, results = ledger.read_attempts(ledger.keys()), ledger.read_results(ledger.keys())
        spent = [spending(records[key], result, 1, usage, list) for key, result in results.items()]
        print(f"{len(results)} cells; {sum(sizes(storage)) / 1e6:.2f} MB")
        cpu = float(done.stdout.splitlines()[-1].split()[1]) if inline else None
        return sum(spent, Spending()).hours, wall, cpu


def sizes(storage: str) -> list[int]:
    """Return the bytes of a ledger's cells."""
    return [
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(storage)
        for name in names
        if os.sep + "cells" + os.sep in folder
    ]


if __name__ == "__main__":
    main()

"""`python -m orchestrator.doctor`: say in plain words what is wrong with this machine or cluster.

Exit codes: 0 nothing is wrong; 1 something is; 2 a mistake in what was asked. Nothing is changed, except
that a small file is written into the storage and removed again.
"""

from __future__ import annotations

import argparse
import os
import sys

from orchestrator.cli.parser import Parser, run_command
from orchestrator.ledger.storage import default_storage
from orchestrator.machines.checkup import Places, check_up


def main(words: list[str] | None = None) -> int:
    """Print the findings and return the exit code."""
    return run_command(_run, words)


def _run(words: list[str] | None) -> int:
    given = _parser().parse_args(words)
    wrong = 0
    for finding in check_up(Places(given.storage, given.address, given.data, given.tracking_uri)):
        print(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.text}", flush=True)
        wrong += not finding.ok
    if wrong:
        print(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.")
    else:
        print("\nAll is well.")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m orchestrator.doctor",
        description="Say what is wrong with this machine, or with every node of a cluster.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--address",
        metavar="A",
        default=os.environ.get("RAY_ADDRESS"),
        help="a Ray cluster's address (default: RAY_ADDRESS, else only this machine is looked at)",
    )
    add(
        "--storage",
        metavar="URI",
        default=default_storage(),
        help=f"the folder or bucket of the sweeps (default: {default_storage()})",
    )
    add("--data", metavar="PATH", help="a data set that every node has to read (default: none)")
    add(
        "--tracking-uri",
        metavar="URI",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow's (default: MLFLOW_TRACKING_URI, else MLflow is not looked at)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

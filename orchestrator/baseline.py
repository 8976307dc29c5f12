"""`python -m orchestrator.baseline`: methods that train no network (paper, appendix C).

It is a short way to ask for a sweep of one of them: `python -m orchestrator.sweep --methods METHOD --executor
inline` does the same, and with other methods beside it. Exit codes are those of a sweep.
"""

from __future__ import annotations

import sys

from orchestrator.cli.baseline_options import read_request
from orchestrator.cli.parser import run_command
from orchestrator.sweep import carry_out


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda given: carry_out(read_request(given)), words)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m orchestrator.baseline`: methods that train no network (paper, appendix C).

It is a short way to ask for a sweep of one of them: `python -m orchestrator.sweep --methods METHOD --executor
inline` does the same, and with other methods beside it. Exit codes are those of a sweep.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orchestrator.sweep import run

if TYPE_CHECKING:
    from orchestrator.planning.request import Request


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_read, words)


def _read(words: list[str] | None) -> Request:
    from orchestrator.cli.baseline_options import read_request

    return read_request(words)


if __name__ == "__main__":
    sys.exit(main())

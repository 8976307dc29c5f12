"""`python -m orchestrator.baseline`: detectors that train no network (paper, appendix C).

Each held-out class or image set has its folder in the ledger, as the cells of a sweep have, so the same
command again computes only what is missing:

    <storage>/<name>/baseline.json                the request, versions, commit, data fingerprint
    <storage>/<name>/cells/<key>/scores.parquet   one row per image: index, label, is_anomaly, score
    <storage>/<name>/cells/<key>/result.json      written last, with the checksum of the scores
    <storage>/<name>/report/                      table.md, table.tex, table.csv

Exit codes: 0 everything is scored; 2 a mistake in the request. torch is imported only for valid requests.
"""

from __future__ import annotations

import sys

from orchestrator.cli.baseline_options import Options, read_arguments
from orchestrator.cli.parser import INTERRUPTED, run_command
from orchestrator.ledger.storage import StorageAway, no_answer


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    options = read_arguments(words)
    try:
        return _run(options)
    except StorageAway as error:
        raise no_answer(options.storage, error) from None
    except KeyboardInterrupt:
        print("Stopped: the same command goes on.", file=sys.stderr)
        return INTERRUPTED


def _run(options: Options) -> int:
    # Imported here since torch takes seconds, for which --help and mistyped options need not wait.
    from orchestrator.baselines.run import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())

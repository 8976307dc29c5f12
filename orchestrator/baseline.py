"""`python -m orchestrator.baseline`: detectors that train no network (paper, appendix C).

Each held-out class, or image set beside the test images, has its folder in the ledger, as a sweep's cells
have, so the same command again finds what is done:

    <storage>/<name>/baseline.json                what was asked, versions, commit, data fingerprint
    <storage>/<name>/cells/<key>/scores.parquet   one row an image: index, label, is_anomaly, score
    <storage>/<name>/cells/<key>/result.json      written last, with the checksum of the scores
    <storage>/<name>/report/                      table.md, table.tex, table.csv

Exit codes: 0 all is scored; 2 a mistake in what was asked. torch is imported once that is understood.
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
    # Imported here since torch takes seconds, for which --help and a mistyped option do not wait.
    from orchestrator.baselines.run import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())

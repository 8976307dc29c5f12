"""`python -m orchestrator.predict`: flag new images with a network that a sweep trained.

Exit codes: 0 every image was looked at; 1 some could not be read; 2 a mistake in what was asked, said before
anything is written; 128 and its number after a signal. torch is imported only for valid requests; Ray and
MLflow are not needed.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.parser import run_command
from orchestrator.cli.predict_options import PredictRequest, read_request
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.storage import StorageAway, no_answer
from orchestrator.planning.plugins import load, load_with_stored
from orchestrator.planning.specification import check_sources, read_stored
from trainables.mistake import Mistake, counted, escaped, one_line

if TYPE_CHECKING:
    from orchestrator.prediction.prediction import Prediction


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    request = read_request(words)
    output = None if request.output is None else Path(request.output)
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise Mistake(f"--output {output} cannot be written: name a file in a folder that exists.")
    sheet = None if output is None else output.with_suffix(".png")
    with contextlib.redirect_stdout(sys.stderr if output is None else sys.stdout):
        found = _find(request, sheet)
        for sentence in found.about:
            print(escaped(sentence))
        for file, reason in found.unreadable.items():
            print(escaped(f"Left out {file}, which cannot be read: {reason}."), file=sys.stderr)
        flagged = sum(entry.flagged for entry in found.entries)
        print(f"Flagged: {flagged} of {counted(len(found.entries), 'image')}.")
    if output is None or sheet is None:
        sys.stdout.write(found.as_csv())
    else:
        _write(found, output, sheet)
    return 1 if found.unreadable else 0


def _find(request: PredictRequest, sheet: Path | None) -> Prediction:
    # Imported here since torch takes seconds, for which --help and mistyped options need not wait.
    from orchestrator.prediction.prediction import predict

    try:
        ledger = Ledger(request.places.storage, request.name)
        stored = read_stored(ledger)
        check_sources(load(load_with_stored((), ledger)), stored.specification, ledger.name)
        return predict(request, ledger, stored, leave="" if sheet is None else str(sheet))
    except StorageAway as error:
        raise no_answer(request.places.storage, error) from None


def _write(found: Prediction, output: Path, sheet: Path) -> None:
    from orchestrator.prediction.contact_sheet import contact_sheet

    try:
        output.write_text(found.as_csv(), encoding="utf-8", newline="")
        sheet.write_bytes(contact_sheet(found.entries, found.about, oriented=found.oriented))
    except OSError as error:
        raise Mistake(
            f"{output} or {sheet.name} cannot be written ({one_line(error)}): name another --output."
        ) from error
    print(f"Table: {output}\nContact sheet: {sheet}")


if __name__ == "__main__":
    sys.exit(main())

"""Keep passwords out of the list of processes, where all users of a machine read the words of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator.ledger.passwords import masked

OPTION, VARIABLE = "--tracking-uri", "MLFLOW_TRACKING_URI"


def hide_passwords() -> None:
    """Start this process's program again if its words hold the password of a tracking URI.

    It then has the URI in its environment, which only its own user can read, and *** in its words: these are
    what `ps` shows, and what Ray keeps and shows of a job.
    """
    words, uri = without_password(sys.orig_argv)
    if uri is not None:
        os.environ[VARIABLE] = uri
        os.execv(sys.executable, [sys.executable, *words[1:]])


def without_password(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Return a command line with the tracking URI's password masked, and the URI; None if it has none."""
    shown, uri = list(words), None
    for place, word in enumerate(words):
        is_value = place > 0 and words[place - 1] == OPTION
        given = word if is_value else word.removeprefix(f"{OPTION}=")
        if (is_value or given != word) and masked(given) != given:
            uri = given
            shown[place] = word.removesuffix(given) + masked(given)
    return shown, uri

"""The exception for errors that the person at the keyboard can correct."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class Mistake(ValueError):
    """A request that cannot be met; the message is a sentence for the person who made it.

    The message says what was wrong, with the value, what is valid, and what to do next. Commands print it
    without a traceback and exit with code 2. Names that it quotes may come from anywhere: what would break
    its line, or act on a terminal, is written as an escape.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(escaped(sentence))


def escaped(text: str) -> str:
    r"""Return text on one line, with control characters and what is no character as escapes such as \x1b."""
    return _UNSHOWABLE.sub(lambda found: repr(found[0])[1:-1], text)


_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line and paragraph breaks, changes of a text's direction, and halves of characters."""


SYNONYMS = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "bs": "batch_size",
    "seed": "sweep_seed",
}
"""What else people call things that have another name here."""


def unknown(kind: str, value: str, valid: Iterable[str]) -> Mistake:
    """Return the mistake for a name that does not exist, with the valid names and the closest one.

    Of names with commas between them it says that a blank belongs there.
    """
    names = [str(name) for name in valid]
    close = [closest(part, names) for part in str(value).split(",") if part.strip()]
    listed = ", ".join(names)
    if "," in str(value) and close and all(close):
        apart = " ".join(str(name) for name in close)
        return Mistake(
            f"There is no {kind} {value!r}: separate with spaces, without commas: {apart}. Valid: {listed}."
        )
    if len(close) == 1 and close[0]:
        return Mistake(f"There is no {kind} {value!r}. Did you mean {close[0]!r}? Valid: {listed}.")
    return Mistake(f"There is no {kind} {value!r}; valid: {listed}.")


def closest(value: str, names: Iterable[str]) -> str | None:
    """Return the name that somebody who wrote `value` may have meant; None if none is near.

    Case does not matter, and a well-known synonym, such as lr, is near.
    """
    by_case = {name.casefold(): name for name in names}
    wanted = value.strip().casefold()
    if SYNONYMS.get(wanted) in by_case:
        return by_case[SYNONYMS[wanted]]
    found = difflib.get_close_matches(wanted, by_case, n=1)
    return by_case[found[0]] if found else None


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the first line of an error's text that is not blank, for use inside a sentence.

    The line has at most `limit` characters and no full stop at its end. An error without text is
    represented by the name of its type.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:limit].rstrip(".") if lines else type(error).__name__


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 cell" or "3 cells"; a plural in -s need not be given."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"

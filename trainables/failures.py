"""Failures that would only repeat themselves: the same run would end in the same way again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from trainables.mistake import one_line
from trainables.registry import place_in_plugin

PASSING = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
"""Errors of the machine rather than of the code that runs on it: another attempt may succeed."""


class PermanentFailure(RuntimeError):
    """A run that cannot succeed, whoever tries it; the message is a sentence."""


class DetectorFailed(PermanentFailure):
    """A detector raised an error or gave scores that cannot be used; the message names it."""


class TaskFailed(PermanentFailure):
    """An auxiliary task raised an error or gave a loss that cannot be used; the message names it."""


@contextlib.contextmanager
def blamed(failure: type[PermanentFailure], what: str) -> Iterator[None]:
    """Turn an error inside somebody's code into a failure that says what it was, such as "the detector x".

    For a plug-in it also says in which line of which file. Errors of the machine stay what they are.
    """
    try:
        yield
    except (PermanentFailure, *PASSING):
        raise
    except (Exception, SystemExit) as error:
        place = place_in_plugin(error)
        where = "" if place is None else f" in line {place[1]} of {place[0]}"
        raise failure(f"{what} failed{where}: {type(error).__name__}: {one_line(error)}") from error

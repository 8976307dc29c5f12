"""Failures that would only repeat themselves: the same run would end in the same way again."""

from __future__ import annotations


class PermanentFailure(RuntimeError):
    """A run that cannot succeed, whoever tries it; the message is a sentence."""


class DetectorFailed(PermanentFailure):
    """A detector raised an error or gave scores that cannot be used; the message names it."""

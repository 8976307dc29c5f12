"""The request to stop: who is asked ends at the next epoch, from which the ledger goes on.

A process has one request, `stop`. A signal, or on Ray the answer to a heartbeat, makes it; an attempt looks
at it after each epoch, writes a checkpoint and raises Interrupted; whoever hands out cells hands out none.
"""

from __future__ import annotations

import threading

GRACE_SECONDS = 30.0
"""From the signal to the end of the process, at most: what Slurm and spot machines give."""

CLOSING_SECONDS = 8.0
"""The part of them that is left for MLflow's records and the end of Ray; attempts get the rest."""


class Interrupted(Exception):
    """An attempt that was asked to stop, and did, after an epoch that a checkpoint holds."""


class StopRequest:
    """Whether this process was asked to stop; it may be asked from any thread."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @property
    def asked(self) -> bool:
        """Whether work is to end at the next epoch."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end of all work in this process."""
        self._asked.set()

    def withdraw(self) -> None:
        """Begin anew: a process that Tune reuses may go on with another cell."""
        self._asked.clear()


stop = StopRequest()
"""This process's."""

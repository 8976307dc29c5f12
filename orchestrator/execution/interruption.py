"""The request to stop: who is asked ends at the next epoch, from which the ledger goes on.

A process has one request, `stop`. A signal, or on Ray the answer to a heartbeat, makes it; an attempt looks
at it after each epoch, writes a checkpoint and raises Interrupted; whoever hands out cells hands out none.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from orchestrator.cli.signals import Once, Signalled, handling, name_of

GRACE_SECONDS = 30.0
"""From the signal to the end of the process, at most: what Slurm and spot machines give."""

CLOSING_SECONDS = 8.0
"""The part of them that is left for MLflow's records and the end of Ray; attempts get the rest."""

SOON_SECONDS = 1.0
"""Who stops sooner need not say that he is about to."""


class Interrupted(Exception):
    """An attempt that was asked to stop, and did, after an epoch that a checkpoint holds."""


class StopRequest:
    """Whether this process was asked to stop; it may be asked from any thread."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._passing_on: list[Callable[[], object]] = []

    @property
    def asked(self) -> bool:
        """Whether work is to end at the next epoch."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end of all work in this process, and wherever it is passed on to."""
        self._asked.set()
        for pass_on in self._passing_on:
            pass_on()

    def withdraw(self) -> None:
        """Begin anew: a process that Tune reuses may go on with another cell."""
        self._asked.clear()

    @contextlib.contextmanager
    def passed_on(self, pass_on: Callable[[], object]) -> Iterator[None]:
        """Call a function, from the thread that asks, when the request is made."""
        self._passing_on.append(pass_on)
        try:
            yield
        finally:
            self._passing_on.remove(pass_on)


stop = StopRequest()
"""This process's."""


@contextlib.contextmanager
def stoppable(say: Callable[[str], object]) -> Iterator[None]:
    """Take a signal as a request to stop while cells run; raise Signalled at the end if there was one.

    The main thread is interrupted where it is when the grace is over, or at a second signal. `say` tells the
    person what is waited for.
    """
    over, numbers = threading.Event(), []
    main = threading.main_thread().ident or 0

    def wait(number: int) -> None:
        until = time.monotonic() + GRACE_SECONDS - CLOSING_SECONDS
        stop.ask()  # which may take seconds
        if over.wait(SOON_SECONDS):
            return
        rest = GRACE_SECONDS - CLOSING_SECONDS
        say(
            f"{name_of(number)}: nothing new begins, and what runs ends after its epoch, within {rest:.0f} "
            "s; a second signal ends it at once."
        )
        if not over.wait(max(until - time.monotonic(), 0.0)):
            signal.pthread_kill(main, number)

    def first(number: int) -> None:
        numbers.append(number)
        threading.Thread(target=wait, args=(number,), daemon=True).start()

    def second(number: int) -> None:
        raise Signalled(numbers[0])

    with handling(Once(first, second)):
        try:
            yield
        except KeyboardInterrupt:  # Ray's C++ turns whatever a handler raises into Python's own
            if not numbers:
                raise
        finally:
            over.set()
            stop.withdraw()
        if numbers:
            raise Signalled(numbers[0])

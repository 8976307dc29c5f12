"""Errands to a server that may be away, run in order by a thread of its own: nobody waits for them.

An errand that fails is tried again until it succeeds, is seen to be hopeless, or the box is given up.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

RETRY_SECONDS = 3.0
GRACE_SECONDS = 10.0
"""For which an end waits for a server that is known to be away, and for the thread to notice the end."""

Errand = Callable[[], object]


class Outbox:
    """A queue of errands and the thread that runs them."""

    def __init__(self, hopeless: Callable[[Exception], bool]) -> None:
        """`hopeless` tells an error that would only repeat itself from a server that is away."""
        self.refusals: list[str] = []
        """What was said to errands that were hopeless."""
        self._hopeless = hopeless
        self._queue: queue.Queue[Errand | None] = queue.Queue()
        self._away = threading.Event()
        self._given_up = threading.Event()
        """Set at the end: a thread that is still in pyarrow's code when the process ends aborts it."""
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def away(self) -> bool:
        """Whether the last try failed: then an earlier call may have been carried out without an answer."""
        return self._away.is_set()

    def start(self) -> None:
        """Begins to run errands, those that were put before included."""
        self._thread.start()

    def put(self, errand: Errand) -> None:
        """Adds an errand to the end of the queue."""
        self._queue.put(errand)

    def close(self, timeout: float) -> bool:
        """Waits for what is queued; False where the server is away and errands are outstanding."""
        self._queue.put(None)
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < began + timeout:
            self._thread.join(0.1)
            if self.away and time.monotonic() > began + GRACE_SECONDS:
                break
        done = not self._thread.is_alive()
        self._given_up.set()
        self._thread.join(GRACE_SECONDS)
        return done

    def _work(self) -> None:
        while (errand := self._queue.get()) is not None:
            while not self._given_up.is_set():
                try:
                    errand()
                    self._away.clear()
                    break
                except Exception as error:
                    if self._hopeless(error):
                        self.refusals.append(first_line(error))
                        break
                    self._away.set()
                    logging.getLogger(__name__).debug("%s", error)
                    self._given_up.wait(RETRY_SECONDS)


def first_line(error: BaseException) -> str:
    """An error's first line, for a sentence."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")

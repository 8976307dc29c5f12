"""A queue of jobs for a server that may be away, run in order by its own thread, so that nobody waits for it.

A job that fails is run again until it succeeds, until it fails with an error that is not retryable, or until
the queue is closed.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from trainables.mistake import one_line

RETRY_SECONDS = 3.0
GRACE_SECONDS = 10.0
"""How long `close` waits for a server that is known to be away, and then for the thread to end."""

Job = Callable[[], object]


class RetryQueue:
    """A queue of jobs and the thread that runs them."""

    def __init__(self, retryable: Callable[[Exception], bool]) -> None:
        """Take the predicate that decides whether a job that failed with an error is worth running again."""
        self.refusals: list[str] = []
        """First lines of the errors that were not retryable."""
        self._retryable = retryable
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._away = threading.Event()
        self._closed = threading.Event()
        """Ends the thread: one that is still in pyarrow's code when the process ends would abort it."""
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def away(self) -> bool:
        """Whether the last attempt failed; the server may have carried out that job without answering."""
        return self._away.is_set()

    def start(self) -> None:
        """Begin to run jobs, including those that are queued already."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Add a job to the end of the queue."""
        self._queue.put(job)

    def close(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the queued jobs; return whether all of them were run.

        A server that is away is waited for GRACE_SECONDS only. Jobs that are left then are dropped.
        """
        self._queue.put(None)
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < began + timeout:
            self._thread.join(0.1)
            if self.away and time.monotonic() > began + GRACE_SECONDS:
                break
        done = not self._thread.is_alive()
        self._closed.set()
        self._thread.join(GRACE_SECONDS)
        return done

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            while not self._closed.is_set():
                try:
                    job()
                    self._away.clear()
                    break
                except Exception as error:
                    if not self._retryable(error):
                        self.refusals.append(one_line(error))
                        break
                    self._away.set()
                    logging.getLogger(__name__).debug("%s", error)
                    self._closed.wait(RETRY_SECONDS)

"""A queue of jobs for a server that may be away, run in order by its own thread, so that nobody waits for it.

A job that fails is run again until it succeeds, until it fails with an error that is not retryable, or until
the queue is closed. A job may also put itself off, so that others come first.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from orchestrator.ledger.lock import LockLost
from orchestrator.ledger.passwords import masked
from trainables.mistake import one_line

RETRY_SECONDS = 3.0
GRACE_SECONDS = 10.0
"""How long `close` waits for a server that is away, and then for the thread to end."""
SAY_SECONDS = 10.0
"""After how long `close` says that it waits."""

Job = Callable[[], object]


class Later(Exception):
    """Raised by a job that is to be run again after RETRY_SECONDS; the jobs behind it are run meanwhile."""


class RetryQueue:
    """A queue of jobs and the thread that runs them."""

    def __init__(
        self, retryable: Callable[[Exception], bool], check: Callable[[], None] = lambda: None
    ) -> None:
        """Take the predicate that decides whether a job that failed with an error is worth running again.

        `check` is called before each job; if it raises LockLost, no more jobs are run.
        """
        self._check = check
        self.refusals: list[str] = []
        """First lines of the errors that were not retryable."""
        self._retryable = retryable
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._put_off: list[tuple[float, Job]] = []
        """Jobs that were put off, with the time from which they are due; only the thread uses it."""
        self._last = False
        """Whether the thread has seen that no further job comes."""
        self._away_since: float | None = None
        self._progressed = time.monotonic()
        """When a job was last carried out."""
        self._closed = threading.Event()
        """Ends the thread: one that is still in pyarrow's code when the process ends would abort it."""
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def away(self) -> bool:
        """Whether the server did not answer when it was last asked."""
        return self._away_since is not None

    def answered(self) -> None:
        """Note that the server answered a part of a job."""
        self._away_since = None

    def start(self) -> None:
        """Begin to run jobs, including those that are queued already."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Add a job to the end of the queue."""
        self._queue.put(job)

    def close(
        self, timeout: float, *, patient: bool = False, say: Callable[[int], object] = lambda left: None
    ) -> bool:
        """Wait up to `timeout` seconds for the queued jobs; return whether all of them were run.

        A `patient` call waits as long as a job is carried out every `timeout` seconds. A server that is away
        is waited for GRACE_SECONDS only. Jobs that are left then are dropped. After SAY_SECONDS `say` is
        called, once, with the number of jobs that are left.
        """
        self._queue.put(None)
        began, said = time.monotonic(), False
        while self._thread.is_alive():
            self._thread.join(0.1)
            now, away_since = time.monotonic(), self._away_since
            if now > (max(began, self._progressed) if patient else began) + timeout:
                break
            if away_since is not None and now > max(began, away_since) + GRACE_SECONDS:
                break
            if now > began + SAY_SECONDS and not said:
                said = True
                say(self._queue.qsize() + len(self._put_off) + 1)
        done = not self._thread.is_alive()
        self._closed.set()
        self._thread.join(GRACE_SECONDS)
        return done

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._run(job)
        except LockLost:  # which the driver says
            self._closed.set()

    def _next(self) -> Job | None:
        """Return the job that is due next, waiting for it; None after the last one and once closed."""
        while not self._closed.is_set():
            wait = self._put_off[0][0] - time.monotonic() if self._put_off else None
            if wait is not None and wait <= 0:
                return self._put_off.pop(0)[1]
            if self._last:
                if wait is None:
                    return None
                self._closed.wait(wait)
                continue
            try:
                job = self._queue.get(timeout=wait)
            except queue.Empty:
                continue
            if job is not None:
                return job
            self._last = True
        return None

    def _run(self, job: Job) -> None:
        while not self._closed.is_set():
            try:
                self._check()
                job()
            except Later:
                self._put_off.append((time.monotonic() + RETRY_SECONDS, job))
                self._away_since = None
            except Exception as error:
                if self._retryable(error):
                    self._away_since = self._away_since or time.monotonic()
                    logging.getLogger(__name__).debug("%s", masked(str(error)))
                    self._closed.wait(RETRY_SECONDS)
                    continue
                self.refusals.append(masked(one_line(error)))
            else:
                self._away_since = None
                self._progressed = time.monotonic()
            return

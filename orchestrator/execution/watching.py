"""A thread that collects signs of life while cells run, and acts on what the watchdog says of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.cli.times import duration
from orchestrator.execution.progress import Progress
from orchestrator.execution.watchdog import Process, Sign, Stall, Watchdog
from trainables.mistake import counted

POLL_SECONDS, LONGEST_POLL = 1.0, 5.0
"""Between two looks; and what is longer was this process standing still, which is no fault of the cells."""

WAITING_SECONDS, WAITING_AGAIN = 60.0, 600.0
"""After which a cell that waits for resources is mentioned, and mentioned again."""

ENDING_SECONDS = 30.0
"""After which a cell that should have been ended is ended again."""


@dataclass(frozen=True)
class Waiting:
    """Cells that wait for resources."""

    cells: int = 0
    what: str = ""
    """Such as "CPUs"."""
    needs: str = ""
    """What one of them needs, such as "2 x 1 CPU"."""
    there: str = ""
    """What the cluster has, such as "1 CPU, of which 0 are free"."""


def _nothing() -> Waiting:
    return Waiting()


class Watch:
    """Looks once a second at the cells that run."""

    def __init__(
        self,
        dog: Watchdog,
        progress: Progress,
        read: Callable[[], list[Sign] | None],
        end: Callable[[Sequence[Process]], object] | None = None,
        waits: Callable[[], Waiting] = _nothing,
    ) -> None:
        """Take the signs that `read` gives, None if it has no answer; `end` ends processes."""
        self._dog, self._progress = dog, progress
        self._read, self._end, self._waits = read, end, waits
        self._over = threading.Event()
        self._looked = time.monotonic()
        self._waiting_since: float | None = None
        self._waiting_said = 0.0
        self._ending: dict[str, tuple[Stall, float]] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch, from a thread, until the end of the block."""
        thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._looked = time.monotonic()
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(LONGEST_POLL)

    def _run(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            # Ray or the terminal may fail for a moment, after which there is as much to watch as before.
            with contextlib.suppress(Exception):
                self.look()

    def look(self) -> None:
        """Take the signs that have come, and act on what they say."""
        signs = self._read()
        now = time.monotonic()
        if signs is None:  # time in which no sign could come does not count
            self._looked = now
            return
        passed, self._looked = now - self._looked, now
        waiting = self._waits() if self._dog.not_started else Waiting()
        self._dog.pass_time(passed if passed < LONGEST_POLL else POLL_SECONDS, waiting=waiting.cells > 0)
        for sign in signs:
            self._dog.heard(sign)
        self._show(waiting, now)
        self._progress.shows(self._dog.at_work())
        self._end_stalled(now)
        line = self._dog.quiet()
        if line:
            self._progress.say(line)

    def _show(self, waiting: Waiting, now: float) -> None:
        """Show which cells wait for resources, and say so if it takes long."""
        self._progress.waits(waiting.cells, waiting.what)
        if not waiting.cells:
            self._waiting_since = None
            return
        if self._waiting_since is None:
            self._waiting_since = now
            self._waiting_said = now + WAITING_SECONDS - WAITING_AGAIN
        if now - self._waiting_said >= WAITING_AGAIN:
            self._waiting_said = now
            verb = "has" if waiting.cells == 1 else "have"
            self._progress.say(
                f"{counted(waiting.cells, 'cell')} {verb} waited for {waiting.what} for "
                f"{duration(now - self._waiting_since)}: one needs {waiting.needs}, and the cluster has "
                f"{waiting.there}."
            )

    def _end_stalled(self, now: float) -> None:
        """End what stands still; what Tune does not report as ended soon is said, and ended again."""
        stalled = self._dog.stalled()
        if self._end is None:
            return
        self._ending = {trial: each for trial, each in self._ending.items() if self._dog.knows(trial)}
        late = [stall for stall, since in self._ending.values() if now - since > ENDING_SECONDS]
        for stall in late:
            self._progress.say(f"{stall.label} shows {stall}; it could not be ended yet.")
        processes = [process for stall in stalled for process in stall.to_end]
        processes += [process for stall in late for process in stall.processes]
        if processes:
            self._end(processes)
            self._ending |= {stall.trial: (stall, now) for stall in (*stalled, *late)}

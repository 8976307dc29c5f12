"""Between the plan and the executor: hands cells out, and passes on what is reported of them."""

from __future__ import annotations

from orchestrator.execution.interruption import stop
from orchestrator.execution.progress import Progress
from orchestrator.planning.plan import Assignment, Plan
from orchestrator.planning.studies import Outcome
from orchestrator.tracking.tracker import Tracker
from trainables.mistake import one_line


class Dispatcher:
    """Tells the plan, the tracker and the display what an executor reports."""

    def __init__(self, plan: Plan, progress: Progress, tracker: Tracker | None) -> None:
        self.plan = plan
        self.progress = progress
        self._tracker = tracker

    def next(self) -> Assignment | None:
        """Return the next cell to run, or None if none is ready now or all are to stop."""
        assignment = None if stop.asked else self.plan.next()
        self.progress.update(self.plan.counts())
        return assignment

    @property
    def finished(self) -> bool:
        """Whether no cell will be handed out any more."""
        return self.plan.finished or stop.asked

    def progressed(self, key: str, epoch: int) -> None:
        """Take note that the ledger holds so many epochs of a running cell."""
        self.plan.progressed(key, epoch)
        self.progress.update(self.plan.counts())
        if self._tracker is not None:
            self._tracker.progressed(key)

    def reached(self, key: str, rung: int, value: float) -> None:
        """Take note that a search cell has reached a rung, with its validation accuracy there."""
        self.plan.reached(key, rung, value)
        self.progress.update(self.plan.counts(), quietly=True)
        if self._tracker is not None:
            self._tracker.progressed(key)

    def done(self, key: str, outcome: Outcome, label: str, measured: str) -> None:
        """Take note that a cell's result is in the ledger, and of what it says, in a few words, too."""
        self.plan.done(key, outcome)
        self.progress.finished(key, label, measured)
        # The next cell is about to be asked for: a line printed now would count one too few as running.
        self.progress.update(self.plan.counts(), quietly=True)
        if self._tracker is not None:
            self._tracker.done(key)

    def interrupted(self, key: str, error: str) -> None:
        """Take note that an attempt was asked to stop, and did: its cell is left to the next driver."""
        self.plan.failed(key, error)
        self.progress.update(self.plan.counts(), quietly=True)

    def failed(self, key: str, label: str, error: str, *, retryable: bool = True, how: str = "") -> None:
        """Take note that an attempt failed; the cell is tried again as long as the plan allows.

        `how` says in which way the next try differs.
        """
        again = self.plan.failed(key, error, retryable=retryable)
        fate = f"it is tried again{how}" if again else "given up"
        self.progress.say(f"{label} failed ({error}); {fate}.")
        self.progress.update(self.plan.counts())
        if self._tracker is not None and not again:
            self._tracker.failed(key)


def describe(error: BaseException) -> str:
    """Return an error in one line: its type and the first line of its message."""
    name, text = type(error).__name__, one_line(error)
    return name if text == name else f"{name}: {text}"

"""Between the plan and whoever runs its cells: hands cells out, and passes on what becomes of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from orchestrator.execution.progress import Progress
from orchestrator.planning.plan import Assignment, Plan

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker


class Foreman:
    """Both executors work for it; it tells the plan, the tracker and the display."""

    def __init__(self, plan: Plan, progress: Progress, tracker: Tracker | None) -> None:
        self.plan = plan
        self.progress = progress
        self._tracker = tracker

    def next(self) -> Assignment | None:
        """The next cell to run, or None where none is ready now."""
        assignment = self.plan.next()
        self.progress.update(self.plan.counts())
        return assignment

    def progressed(self, key: str, epoch: int) -> None:
        """The ledger holds so many epochs of a running cell."""
        self.plan.progressed(key, epoch)
        self.progress.update(self.plan.counts())
        if self._tracker is not None:
            self._tracker.progressed(key)

    def done(self, key: str, value: float | None) -> None:
        """A cell's result is in the ledger."""
        self.plan.done(key, value)
        self.progress.finished(key)
        # The next cell is about to be asked for: a line printed now would count one too few as running.
        self.progress.update(self.plan.counts(), quietly=True)
        if self._tracker is not None:
            self._tracker.done(key)

    def failed(self, key: str, label: str, error: str, *, hopeless: bool = False) -> None:
        """An attempt failed; it is tried again as long as the plan allows."""
        again = self.plan.failed(key, error, hopeless=hopeless)
        fate = "it is tried again" if again else "given up"
        self.progress.say(f"{label} failed ({error}); {fate}.")
        self.progress.update(self.plan.counts())
        if self._tracker is not None and not again:
            self._tracker.failed(key)


def describe(error: BaseException) -> str:
    """An error in one line: its type and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    with contextlib.suppress(IndexError):
        return f"{type(error).__name__}: {lines[0]}"[:300]
    return type(error).__name__

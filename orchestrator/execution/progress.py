"""How far a sweep is: a live display on a terminal; elsewhere, a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from orchestrator.cli.times import duration
from orchestrator.execution.display import Display, columns
from orchestrator.execution.watchdog import AtWork
from orchestrator.planning.cells import FINAL, SEARCH

LINE_SECONDS, LONGEST_PAUSE = 20.0, 600.0
"""Seconds between plain lines if the output is no terminal: at first, and in a sweep that takes days."""

FEW = 2
"""So many cells at work are described in a plain line; of more only the speed."""


class Progress:
    """Counts cells, and estimates the time left from the work, in FLOPs, that is done."""

    def __init__(
        self,
        work: Mapping[str, int],
        done: set[str],
        phases: Mapping[str, str] | None = None,
        epochs: int = 0,
    ) -> None:
        """Take each cell's FLOPs by key, the keys of the cells that were done before, and phases by key.

        `epochs` is for how many a cell is trained.
        """
        self._work = work
        self._left = sum(size for key, size in work.items() if key not in done)
        self._finished_work = 0
        self._total = len(work)
        self._phases = phases or {}
        self._of_phase = Counter(self._phases.values())
        self._done_of_phase = Counter(self._phases[key] for key in done if key in self._phases)
        self._epochs = epochs
        self._console = Console(stderr=True, highlight=False)
        self._display = Display(self._console, epochs) if self._console.is_terminal else None
        self._started = time.monotonic()
        self._said = self._started
        self._detail = ""
        self._at_work: Sequence[AtWork] = ()
        self._began_at: dict[str, int] = {}
        """By key, in which epoch a cell was first seen: an earlier attempt may have come so far."""
        self._counts: Mapping[str, int] = {}
        self._waiting = (0, "")
        self._printing = threading.RLock()

    @contextlib.contextmanager
    def running(self) -> Iterator[Progress]:
        """Show the display while the sweep runs; the clock for the time left starts here."""
        self._started = self._said = time.monotonic()
        with self._display.live if self._display else contextlib.nullcontext():
            yield self
        if not self._display and self._detail:
            self._line(self._detail)

    def finished(self, key: str, label: str = "", measured: str = "") -> None:
        """Count a cell as done, and show what was measured."""
        self._finished_work += self._work[key]
        self._at_work = [each for each in self._at_work if each.key != key]
        if key in self._phases:
            self._done_of_phase[self._phases[key]] += 1
        if self._display:
            self._display.measured(label, measured)

    def shows(self, at_work: Sequence[AtWork]) -> None:
        """Show what the cells that run are at."""
        self._at_work = at_work
        for each in at_work:
            if each.epoch:
                self._began_at.setdefault(each.key, each.epoch)
        if self._display:
            self._display.at_work = at_work
        if self._counts:
            self.update(self._counts)

    def update(self, counts: Mapping[str, int], *, quietly: bool = False) -> None:
        """Show how many cells are done, running and failed, and the time left; quietly: no plain line."""
        self._counts = counts
        waiting, what = self._waiting
        waiting = min(waiting, counts["running"])
        parts = [
            f"{counts['done']}/{self._total} cells done{self._by_phase()}",
            f"{counts['running'] - waiting} running",
        ]
        if waiting:
            parts.append(f"{waiting} waiting for {what}")
        if counts["failed"]:
            parts.append(f"{counts['failed']} failed")
        if counts["running"]:
            parts.append(self._time_left())
        self._detail = ", ".join(part for part in parts if part)
        if self._display:
            self._display.summary = self._detail
            self._display.done, self._display.total = counts["done"], self._total
        elif not quietly:
            with self._printing:  # two threads come here
                if time.monotonic() - self._said >= self._pause():
                    self._line(f"{self._detail}{self._at_present()}")

    def waits(self, cells: int, what: str) -> None:
        """Show so many of the cells that were handed out as waiting, such as for "CPUs"."""
        self._waiting = (cells, what)

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self._display:
            self._console.print(text, markup=False)
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        with self._printing:
            self._said = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _pause(self) -> float:
        """Return a tenth of the time so far, within bounds."""
        return min(max(LINE_SECONDS, (time.monotonic() - self._started) / 10), LONGEST_PAUSE)

    def _by_phase(self) -> str:
        """Return how far each phase is, where there are two."""
        if len(self._of_phase) < 2:
            return ""
        done = [f"{self._done_of_phase[each]} of {self._of_phase[each]} {each}" for each in (SEARCH, FINAL)]
        return f" ({', '.join(done)})"

    def _at_present(self) -> str:
        """Return, after a semicolon, what the cells that run are at."""
        if not self._at_work:
            return ""
        if len(self._at_work) > FEW:
            speed = sum(each.images_per_second for each in self._at_work)
            return f"; {speed:,.0f} images/s"
        said = [
            " ".join([each.label, ", ".join(filter(None, columns(each, self._epochs)))])
            for each in self._at_work
        ]
        return f"; {'; '.join(said)}"

    def _time_left(self) -> str:
        done = self._finished_work + sum(self._advanced(each) for each in self._at_work)
        remaining = self._left - done
        if not done or remaining <= 0:
            return ""
        seconds = (time.monotonic() - self._started) * remaining / done
        return f"about {duration(seconds)} left"

    def _advanced(self, cell: AtWork) -> float:
        """Return the work, in FLOPs, of the epochs that a running cell has been seen to train."""
        epochs = cell.epoch - self._began_at.get(cell.key, cell.epoch)
        return self._work[cell.key] * epochs / max(self._epochs, epochs, 1)

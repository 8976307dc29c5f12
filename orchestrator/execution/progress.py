"""A live display of the sweep on a terminal; elsewhere, a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from orchestrator.cli.times import duration

LINE_SECONDS, LONGEST_PAUSE = 20.0, 600.0
"""Seconds between plain lines if the output is no terminal: at first, and in a sweep that takes days."""


class Progress:
    """Counts cells, and estimates the time left from the work, in FLOPs, that is done."""

    def __init__(self, work: Mapping[str, int], done: set[str]) -> None:
        """Take each cell's FLOPs by key, and the keys of the cells that were done before."""
        self._work = work
        self._left = sum(size for key, size in work.items() if key not in done)
        self._finished_work = 0
        self._total = len(work)
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("cells", total=self._total, detail="")
        self._started = time.monotonic()
        self._said = self._started
        self._detail = ""
        self._counts: Mapping[str, int] = {}
        self._waiting = (0, "")
        self._printing = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[Progress]:
        """Show the display while the sweep runs; the clock for the time left starts here."""
        self._started = self._said = time.monotonic()
        with self._bar:
            yield self
        if not self._live and self._detail:
            self._line(self._detail)

    def finished(self, key: str) -> None:
        """Count a cell as done."""
        self._finished_work += self._work[key]

    def update(self, counts: Mapping[str, int], *, quietly: bool = False) -> None:
        """Show how many cells are done, running and failed, and the time left; quietly: no plain line."""
        self._counts = counts
        waiting, what = self._waiting
        waiting = min(waiting, counts["running"])
        parts = [f"{counts['done']}/{self._total} cells done", f"{counts['running'] - waiting} running"]
        if waiting:
            parts.append(f"{waiting} waiting for {what}")
        if counts["failed"]:
            parts.append(f"{counts['failed']} failed")
        parts.append(self._time_left())
        self._detail = ", ".join(part for part in parts if part)
        self._bar.update(self._task, completed=counts["done"], detail=self._detail)
        if not (self._live or quietly) and time.monotonic() - self._said >= self._pause():
            self._line(self._detail)

    def waits(self, cells: int, what: str) -> None:
        """Show so many of the cells that were handed out as waiting, such as for "CPUs"."""
        if cells or (cells, what) != self._waiting:  # nothing else renews the display while all wait
            self._waiting = (cells, what)
            if self._counts:
                self.update(self._counts)

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self._live:
            self._bar.console.print(text, markup=False)
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        with self._printing:
            self._said = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _pause(self) -> float:
        """Return a tenth of the time so far, within bounds."""
        return min(max(LINE_SECONDS, (time.monotonic() - self._started) / 10), LONGEST_PAUSE)

    def _time_left(self) -> str:
        remaining = self._left - self._finished_work
        if not self._finished_work or not remaining:
            return ""
        seconds = (time.monotonic() - self._started) * remaining / self._finished_work
        return f"about {duration(seconds)} left"

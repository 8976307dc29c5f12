"""What a terminal shows while a sweep runs: how far it is, what is at work, and what was measured last."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.execution.watchdog import AtWork

MOST_SHOWN = 8
"""Cells at work that are shown before the rest is counted."""
RESULTS_SHOWN = 3
BAR_WIDTH = 30
"""Columns."""


class Display:
    """A few lines at the foot of a terminal, renewed twice a second; it leaves nothing there at its end."""

    def __init__(self, console: Console, epochs: int) -> None:
        """Take how many epochs a cell is trained, 0 if that is not to be shown."""
        self._epochs = epochs
        self.summary, self.done, self.total = "", 0, 0
        self.at_work: Sequence[AtWork] = ()
        self._results: deque[str] = deque(maxlen=RESULTS_SHOWN)
        self.live = Live(console=console, transient=True, refresh_per_second=2, get_renderable=self.render)

    def measured(self, label: str, what: str) -> None:
        """Show what was measured of a cell that is done."""
        self._results.append(f"{label} is done: {what}" if what else f"{label} is done")

    def render(self) -> Group:
        """Return what there is to show now."""
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(max(self.total, 1), self.done, width=BAR_WIDTH), Text(self.summary))
        cells = Table.grid(padding=(0, 2))
        for each in self.at_work[:MOST_SHOWN]:
            cells.add_row("", each.label, *columns(each, self._epochs))
        more = len(self.at_work) - MOST_SHOWN
        rest = [Text(f"  and {more} more")] if more > 0 else []
        return Group(bar, cells, *rest, *(Text(f"  {each}", style="dim") for each in self._results))


def columns(cell: AtWork, epochs: int) -> tuple[str, str, str]:
    """Return a cell's epoch, what is done in it, and its speed while it trains, in words."""
    epoch = f"epoch {cell.epoch} of {epochs}" if cell.epoch and epochs else ""
    trains = cell.phase == "training" and cell.images_per_second >= 1
    return epoch, cell.phase, f"{cell.images_per_second:,.0f} images/s" if trains else ""

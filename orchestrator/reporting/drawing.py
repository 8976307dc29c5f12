"""What all figures share: colours, markers, legends, and their files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.tracking.views import colour_of

# matplotlib is imported inside the functions that need it: it takes 0.6 s, and not every report is drawn.
if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#666666"
CHANCE = "chance"
PANELS = 30
"""Most panels of a figure of small multiples; what follows is left out."""
DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, min(height, 40.0)), layout="constrained")


def style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return the colour and marker of a method among a sweep's methods."""
    marker = MARKERS[methods.index(method) % len(MARKERS)]
    return {"color": colour_of(method, methods), "marker": marker}


def plain(name: str) -> str:
    """Return a class name that matplotlib does not read as a formula."""
    return name.replace("$", r"\$")


def add_legend(figure: Figure) -> None:
    """Add one legend below all panels, with each label once and chance last."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: label == CHANCE)
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=_legend_columns(labels, figure.get_figwidth()),
        fontsize=9,
        frameon=False,
    )


def _legend_columns(labels: Sequence[str], inches: float) -> int:
    """Return how many columns a legend may have in a figure of this width; it is filled column by column."""

    def width(number: int) -> float:
        columns = np.array_split([len(label) for label in labels], number)
        return sum(0.5 + 0.065 * float(max(column)) for column in columns)

    return next((n for n in range(min(5, len(labels)), 1, -1) if width(n) <= inches), 1)


def add_grid(axes: Axes) -> None:
    """Draw light lines behind what a panel shows."""
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def add_x_labels(grid: np.ndarray, label: str) -> None:
    """Label the abscissa of the lowest panel of each column that is shown, with its ticks."""
    for column in grid.T:
        shown = [axes for axes in column if axes.get_visible()]
        if shown:
            shown[-1].set_xlabel(label, fontsize=9)
            shown[-1].tick_params(labelbottom=True)


def as_files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return a figure as a PNG and a PDF file, whose bytes depend on nothing but what is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # lays it out, once for both files
    figure.set_layout_engine("none")
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return {f"{name}.png": png.getvalue(), f"{name}.pdf": pdf.getvalue()}

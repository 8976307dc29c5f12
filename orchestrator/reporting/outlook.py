"""What a sweep is expected to take, in words: hours, time on the clock, money and storage."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cli.times import duration
from orchestrator.planning.dry_run import readable
from orchestrator.planning.forecast import MARGIN, Expected, Measured, Range, Storage, rates
from orchestrator.planning.specification import Specification
from orchestrator.reporting.costs import short_hours
from trainables.mistake import counted

BUSY = 0.85
"""A share of its CPU below which a process shares it with others."""


def describe(expected: Expected, specification: Specification, price: float | None = None) -> str:
    """Return what is expected, and how it was found, in lines."""
    unit = "GPU-hours" if specification.device == "cuda" else "CPU-hours"
    cells = f"{counted(expected.at_once, 'cell')} at a time"
    lines = [f"Time: {hours(expected.hours)} {unit}, or {clock(expected.wall)} with {cells}."]
    if price is not None and specification.device == "cuda":
        money = _range(expected.hours.times(price), "{:,.2f}".format)
        lines.append(f"Money: {money} at {price:g} a GPU-hour.")
    elif price is not None:
        lines.append("Money: none, since no GPU is used.")
    lines.append(_how(expected.measured, specification))
    lines.append(about_storage(expected.storage))
    return "\n".join(lines)


def hours(amount: Range) -> str:
    """Return a range of hours in words."""
    return _range(amount, short_hours)


def clock(seconds: Range) -> str:
    """Return a range of seconds in words."""
    return _range(seconds, duration)


def about_storage(storage: Storage) -> str:
    """Return what a sweep leaves, in a sentence."""
    parts = {"scores": storage.scores, "windows": storage.windows, "weights": storage.weights}
    parts["records"] = storage.records
    named = ", ".join(f"{name} {readable(size, 'B')}" for name, size in parts.items() if size)
    hint = "; --set keep_weights=false keeps no weights" if storage.weights else ""
    return (
        f"Storage: about {readable(storage.kept, 'B')} ({named}), and up to "
        f"{readable(storage.checkpoints, 'B')} of checkpoints while it runs{hint}."
    )


def _range(amount: Range, said: Callable[[float], str]) -> str:
    low, high = said(amount.low), said(amount.high)
    return low if low == high else f"{low} to {high}"


def _how(measured: Measured | None, specification: Specification) -> str:
    if measured is None:
        low, high = (readable(rate, "FLOP/s") for rate in rates(specification))
        unit = "GPU" if specification.device == "cuda" else "CPU thread"
        return (
            f"  This assumes {low} to {high} of a {unit}: small networks are near the one end, large ones "
            "near the other. --probe measures it."
        )
    kinds = [
        f"{counted(pace.steps, 'step')} and {counted(pace.evaluated_images, 'evaluated image')} of "
        f"{method} ({phase})"
        for (phase, method), pace in measured.paces.items()
    ]
    threads, processes = specification.threads, measured.processes
    beside = f" in {processes} processes beside each other" if processes > 1 else ""
    said = (
        f"  From {'; '.join(kinds)} in {measured.seconds:g} s on {measured.where}{beside}, with "
        f"{counted(threads, 'thread')} each; ±{MARGIN:.0%} for a machine whose speed drifts, and the "
        "spread of what was measured."
    )
    if measured.share < BUSY:
        said += (
            f" Other work runs there, which left a process its CPU for {measured.share:.0%} of the time: the "
            "lower ends are without it, the upper ends beside it."
        )
    if specification.workers > 1:
        said += f" What the {specification.workers} workers of a cell say to each other was not measured."
    if "batch_size" in specification.search:
        said += " Of the batch sizes that are searched, the recipe's was measured."
    return said

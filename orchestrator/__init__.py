"""Sweeps of hold-out-class anomaly detection experiments: planned, run, recorded and reported.

`open_sweep("NAME")` reads a sweep's results as data frames (docs/reading-results.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.reporting.frames import open_sweep

__all__ = ["open_sweep"]


def __getattr__(name: str) -> object:
    """Import what the package offers when it is asked for, since commands start quickly without pandas."""
    if name == "open_sweep":
        from orchestrator.reporting.frames import open_sweep

        return open_sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The last report of a Tune trial: how its attempt at a cell ended."""

from __future__ import annotations

from typing import Any


def done(result: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the report of a cell that is done, with its value if it is a search cell."""
    return {"epoch": epochs, "ending": "done", "value": result["values"].get("value")}


def failed(
    error: str, *, retryable: bool, short_of: str | None = None, lost_workers: bool = False
) -> dict[str, Any]:
    """Return the report of an attempt that failed.

    `short_of` says whose memory ran out, if that was it; a group that lost workers may not know.
    """
    return {
        "epoch": 0,
        "ending": "failed",
        "error": error,
        "retryable": retryable,
        "short_of": short_of,
        "lost_workers": lost_workers,
    }


def interrupted(error: str) -> dict[str, Any]:
    """Return the report of an attempt that was asked to stop, and did."""
    return {"epoch": 0, "ending": "interrupted", "error": error}

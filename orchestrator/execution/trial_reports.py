"""The last report of a Tune trial: how its attempt at a cell ended."""

from __future__ import annotations

from typing import Any


def done(result: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the report of a cell that is done, with its value if it is a search cell."""
    return {"epoch": epochs, "ending": "done", "value": result["values"].get("value")}


def failed(error: str, *, retryable: bool) -> dict[str, Any]:
    """Return the report of an attempt that failed."""
    return {"epoch": 0, "ending": "failed", "error": error, "retryable": retryable}


def interrupted(error: str) -> dict[str, Any]:
    """Return the report of an attempt that was asked to stop, and did."""
    return {"epoch": 0, "ending": "interrupted", "error": error}

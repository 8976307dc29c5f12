"""The last report of a Tune trial: how its attempt at a cell ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.execution.attempt import RUNG, VALUE

AP = "final/ap_"

OF_A_RESULT = ("aux_weights", "fields", "rungs", "stopped_at")


def ended(result: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the report of an attempt that ended well: its cell is done, or has reached a rung."""
    if RUNG in result:
        return {"epoch": result[RUNG], "ending": "at a rung", "value": result[VALUE]}
    outcome = {name: result[name] for name in OF_A_RESULT if name in result}
    values = {name: result["values"][name] for name in ("value", "diverged") if name in result["values"]}
    return {
        "epoch": epochs,
        "ending": "done",
        "outcome": json.dumps({**outcome, "values": values}),
        "measured": measured(result),
    }


def measured(result: Mapping[str, Any]) -> str:
    """Return in a few words what a cell's result says, an AP for each detector and the accuracy."""
    values = result["values"]
    if "value" in values:
        return "diverged" if values.get("diverged") else f"validation accuracy {100 * values['value']:.1f}%"
    said = [
        f"AP-{name.removeprefix(AP).upper()} {100 * value:.1f}%"
        for name, value in values.items()
        if name.startswith(AP) and not name.endswith("_last")
    ]
    if "final/test_accuracy" in values:
        said.append(f"accuracy {100 * values['final/test_accuracy']:.1f}%")
    return ", ".join(said)


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

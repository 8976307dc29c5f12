"""A sweep's state as text for a terminal, and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from orchestrator.cli.next_commands import resume_command
from orchestrator.cli.times import duration, moment
from orchestrator.ledger.owner import Owner
from orchestrator.planning.cells import SEARCH
from orchestrator.planning.request import Request
from orchestrator.reporting.sweep_state import DONE, FAILED, RUNNING, STATUSES, WAITING, SweepState

NAMED = 5
"""Most failures and running cells that are named."""
SILENT_SECONDS = 60.0
"""An owner of a lock on an object store that was not heard for so long may be dead."""


def describe(state: SweepState) -> str:
    """Return the state in lines."""
    totals = state.totals
    more = ", ".join(f"{totals[status]} {status}" for status in (RUNNING, FAILED, WAITING) if totals[status])
    lines = [
        f"Sweep {state.name} in {state.storage}: {totals[DONE]} of {state.cells} cells done"
        f"{f', {more}' if more else ''}.",
        _about_owner(state),
        "",
        *_table(state),
        "",
    ]
    pace = _about_pace(state)
    return "\n".join([*lines, *pace, *_running(state), *_failures(state), state.cost.sentence])


def one_line(state: SweepState) -> str:
    """Return the state in a line for a list of sweeps."""
    totals = state.totals
    parts = [f"{totals[DONE]} of {state.cells} cells done"]
    parts += [f"{totals[status]} {status}" for status in (RUNNING, FAILED) if totals[status]]
    if state.owner is not None:
        parts.append(f"run by {state.owner.words}")
    return f"{state.name}: {', '.join(parts)}"


def as_json(state: SweepState) -> dict[str, Any]:
    """Return plain values for JSON; times are Unix seconds."""
    return {
        "name": state.name,
        "storage": state.storage,
        "at": state.at,
        "owner": None if state.owner is None else dataclasses.asdict(state.owner),
        "cells": state.cells,
        **state.totals,
        "by_kind": [
            {"phase": phase, "method": method, **{status: found[status] for status in STATUSES}}
            for (phase, method), found in state.counts.items()
        ],
        "under_way": [dataclasses.asdict(each) for each in state.under_way],
        "epochs_per_second": state.epochs_per_second,
        "seconds_left": state.seconds_left,
        "failures": [dataclasses.asdict(each) for each in state.failures],
        "cost": state.cost.as_json(),
    }


def _about_owner(state: SweepState) -> str:
    owner = state.owner
    if owner is None:
        if state.totals[DONE] == state.cells:
            return "Nobody runs it, and nothing is left to run."
        return f"Nobody runs it; go on with: {resume_command(Request(storage=state.storage), state.name)}"
    return f"Run by {owner.words}{_since(owner, state.at)}."


def _since(owner: Owner, now: float) -> str:
    words = ""
    if owner.since is not None:
        words = f" since {moment(owner.since, now)} ({duration(max(0.0, now - owner.since))})"
    if owner.heard is not None and now - owner.heard > SILENT_SECONDS:
        words += f", which was not heard for {duration(now - owner.heard)} and may be dead"
    return words


def _table(state: SweepState) -> list[str]:
    kinds = sorted(state.counts, key=lambda kind: kind[0] != SEARCH)
    counted = [(phase, method, state.counts[phase, method]) for phase, method in kinds]
    rows = [["phase", "method", *STATUSES, "all"]]
    for phase, method, found in [*counted, ("all", "", state.totals)]:
        rows.append([phase, method, *(str(found[s]) for s in STATUSES), str(sum(found.values()))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row with names to the left and numbers to the right."""
    names = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
    numbers = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join([*names, *numbers])


def _about_pace(state: SweepState) -> list[str]:
    parts = []
    if state.epochs_per_second is not None:
        parts.append(f"{state.epochs_per_second:.3g} epochs per second")
    if state.seconds_left is not None:
        parts.append(f"about {duration(state.seconds_left)} left")
    return [f"Pace: {', '.join(parts)}."] if parts else []


def _running(state: SweepState) -> list[str]:
    if not state.under_way:
        return []
    named = [
        f"{each.label} (epoch {each.epoch} of {each.epochs}{f', {each.host}' if each.host else ''})"
        for each in state.under_way[:NAMED]
    ]
    more = len(state.under_way) - len(named)
    return [f"Running, as far as the ledger knows: {', '.join(named)}{f' and {more} more' if more else ''}."]


def _failures(state: SweepState) -> list[str]:
    if not state.failures:
        return []
    lines = [f"Last failures, of {len(state.failures)}:"]
    for each in state.failures[:NAMED]:
        where = f" on {each.host}" if each.host else ""
        why = f": {each.error}" if each.error else ""
        at = moment(each.at, state.at)
        lines.append(f"  {at} {each.label}, attempt {each.attempt}, {each.ending}{where}{why}")
    return lines

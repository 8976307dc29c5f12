"""The record that every attempt at a cell leaves: when and where it ran, what it took, and how it ended."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.digest import Unsound, unseal

RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"
SUPERSEDED, STALLED, LOST = "superseded", "stalled", "lost"
PAUSED = "paused"
"""At a rung, where the cell waits for the others."""
OPEN = (RUNNING, LOST)
"""Endings that the attempt itself, if it lives after all, replaces by its own."""

SUFFIX = ".json"

Json = dict[str, Any]


class ClosedAlready(Exception):
    """An attempt's record says how it ended."""


@dataclass(frozen=True)
class Usage:
    """What an attempt at a cell takes, all its workers together."""

    cpus: float = 1.0
    gpus: float = 0.0


ONE_CPU = Usage()


def begun(number: int, *, device: str, usage: Usage, epoch: int) -> Json:
    """Return the record of an attempt of this process that begins now, after so many epochs."""
    return {
        "attempt": number,
        "started": time.time(),
        "ended": None,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "device": device,
        "cpus": usage.cpus,
        "gpus": usage.gpus,
        "gpu_seconds": 0.0,
        "ending": RUNNING,
        "error": None,
        "resumed_after_epoch": epoch,
        "epoch": epoch,
        "token": uuid.uuid4().hex,  # no other record is equal to it, so its writer knows it again
    }


def ended(record: Json, ending: str, error: str | None, *, at: float, epoch: int) -> Json:
    """Return the record of an attempt that ended at a time and left so many epochs in the ledger."""
    at = max(at, record["started"])  # clocks are set back
    spent = record["gpus"] * (at - record["started"])
    return {**record, "ended": at, "gpu_seconds": spent, "ending": ending, "error": error, "epoch": epoch}


def file_name(number: int) -> str:
    """Return the name of an attempt's record."""
    return f"{number}{SUFFIX}"


def number_of(name: str) -> int | None:
    """Return the attempt whose record has a file name; None for files of others."""
    return int(name.removesuffix(SUFFIX)) if re.fullmatch(r"[1-9][0-9]{0,8}\.json", name) else None


def read(data: bytes, number: int) -> Json:
    """Return the record of an attempt; raise Unsound."""
    record, _ = unseal(data)
    if not _is_whole(record, number):
        raise Unsound("lacks what its readers count on")
    return record


def _is_whole(record: Json, number: int) -> bool:
    numbers = all(_is_number(record.get(name)) for name in ("started", "cpus", "gpus", "gpu_seconds"))
    return (
        numbers
        and record.get("attempt") == number
        and isinstance(record.get("ending"), str)
        and isinstance(record.get("epoch"), int)
        and (record.get("ended") is None or _is_number(record["ended"]))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

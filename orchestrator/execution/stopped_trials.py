"""The end of a search cell that does not go on from a rung: its result, from what the ledger holds of it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from orchestrator.ledger import attempts
from orchestrator.ledger.attempts import Usage
from orchestrator.planning.plan import Assignment
from orchestrator.planning.sweep import Sweep


def stop_at_rung(sweep: Sweep, assignment: Assignment, device: str, usage: Usage) -> dict[str, Any]:
    """Write the result of a cell that goes no further than a rung, and return it; nothing is trained.

    Raises RuntimeError if the ledger has lost what the rung's decision rests on: the cell trains to it again
    when the sweep goes on.
    """
    ledger, key, rung = sweep.ledger, assignment.cell.key, assignment.until
    assert rung is not None
    started, values = time.time(), ledger.read_rungs([key])[0].get(key, {})
    about = {name: value for name, value in ledger.read_cell(key).items() if name != "attempts"}
    if not about or rung not in values:
        raise RuntimeError(f"the record of epoch {rung} of this cell was lost")
    number = ledger.begin(key, about, device=device, usage=usage)
    result = ledger.finish(
        key,
        number,
        {
            "phase": assignment.cell.phase,
            **assignment.what.as_json(),
            "values": {"value": values[rung], "diverged": False, "epochs": rung},
            "rungs": {str(epoch): value for epoch, value in sorted(values.items()) if epoch < rung},
            "stopped_at": rung,
        },
        {
            "number": number,
            "resumed_after_epoch": rung,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "seconds": time.time() - started,
            "finished_at": time.time(),
        },
        curves=[row for row in ledger.read_curves(key) if row["epoch"] <= rung] or None,
    )
    ledger.end_attempt(key, number, attempts.DONE, resumed=rung)
    if not sweep.settings.keep_checkpoints:
        ledger.remove_checkpoints(key)
    return result

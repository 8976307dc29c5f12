"""The executor without Ray: cells one after another in this process."""

from __future__ import annotations

from orchestrator.execution.attempt import Task, run_trial
from orchestrator.execution.dispatcher import Foreman, describe
from trainables.train import Diverged


def run_inline(foreman: Foreman, task: Task) -> None:
    """Runs the plan to its end; a failing cell is the foreman's to judge, an interrupt is not caught."""
    while (assignment := foreman.next()) is not None:
        cell = assignment.cell
        try:
            result = run_trial(task, cell, assignment.aux_weights, foreman.progressed)
        except Exception as error:  # whatever a cell dies of, the others go on
            foreman.failed(cell.key, cell.label, describe(error), hopeless=isinstance(error, Diverged))
        else:
            foreman.done(cell.key, result["values"].get("value"))

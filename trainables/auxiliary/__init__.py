"""Auxiliary tasks, one per file, found by the file's name.

A task's file describes it without torch, so that plans can be made and priced (contract.py); its head and its
loss are in the file of the same name in modules/, which the training loop imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.auxiliary.contract import AuxiliaryTask
from trainables.recipe import Recipe
from trainables.registry import Registry

if TYPE_CHECKING:
    from trainables.auxiliary.modules.contract import Draws, TaskModule

__all__ = ["TASKS", "AuxiliaryTask", "Draws", "TaskModule", "find_task"]

# Only subclasses of the contract are made.
TASKS: Registry[AuxiliaryTask] = Registry("auxiliary task", AuxiliaryTask)  # type: ignore[type-abstract]


def find_task(name: str, recipe: Recipe, channels: int = 3) -> AuxiliaryTask:
    """Return the task with a name, for a recipe and images of so many channels; raise Mistake if unknown."""
    task = TASKS.find(name)()
    task.recipe, task.channels = recipe, channels
    return task


def __getattr__(name: str) -> object:
    """Import what needs torch when it is first asked for."""
    if name not in ("Draws", "TaskModule"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trainables.auxiliary.modules import contract

    return getattr(contract, name)

"""Auxiliary tasks, which the training loop uses through one contract (contract.py).

A task is found by its name: the module trainables.auxiliary.<name> has a class `Task`.
"""

from __future__ import annotations

import importlib

from trainables.auxiliary.contract import AuxiliaryTask
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe

OWN_NORM_TASKS = ("cpc",)
"""Tasks with separate batch norm in the shared groups (paper, appendix B)."""


def build_task(name: str, network: WideResNet, recipe: Recipe) -> AuxiliaryTask:
    """Return the task with a name, with a head that fits the network."""
    task: AuxiliaryTask = importlib.import_module(f"trainables.auxiliary.{name}").Task(network, recipe)
    return task

"""Auxiliary tasks: what each owns, and the one contract by which the training loop knows them.

A task is found by its name: the module trainables.auxiliary.<name> has a class `Task`.
"""

from __future__ import annotations

import importlib

from trainables.auxiliary.contract import AuxiliaryTask
from trainables.networks.wide_resnet import WideResNet
from trainables.run import Recipe

OWN_NORM_TASKS = ("cpc",)
"""Tasks that have batch norm of their own in the shared groups (paper, appendix B)."""


def build_task(name: str, network: WideResNet, recipe: Recipe) -> AuxiliaryTask:
    """The task of a name, with its head sized for the network."""
    return importlib.import_module(f"trainables.auxiliary.{name}").Task(network, recipe)

"""Methods that train nothing, one per file, found by the file's name: edge_energy.py is edge-energy.

Each is one score of images (contract.py). Their names cost no torch. They are the baselines of the paper's
appendix C; plug-ins cannot add others.
"""

from __future__ import annotations

from trainables.registry import Registry
from trainables.training_free.contract import TrainingFree

__all__ = ["TRAINING_FREE", "TrainingFree"]

# Only subclasses of the contract are made.
TRAINING_FREE: Registry[TrainingFree] = Registry("method without training", TrainingFree)  # type: ignore[type-abstract]

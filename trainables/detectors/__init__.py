"""Detectors, one per file, found by the file's name: max_logit.py is max-logit.

A detector scores test images, from logits, from features or through the network (contract.py). Higher scores
are more anomalous.
"""

from __future__ import annotations

from trainables.detectors.contract import Detector
from trainables.registry import Registry

__all__ = ["DEFAULT_DETECTORS", "DEFAULT_LABELS", "DETECTORS", "Detector"]

DEFAULT_LABELS = {"msp": "MSP", "odin": "ODIN"}
"""The two detectors of the paper and their labels, which ledgers of version 0.1 do not state."""

DEFAULT_DETECTORS = tuple(DEFAULT_LABELS)

# Only subclasses of the contract are made.
DETECTORS: Registry[Detector] = Registry("detector", Detector)  # type: ignore[type-abstract]

"""Detectors, one per file, found by the file's name: max_logit.py is max-logit.

A detector scores test images, from logits, from features or through the network (contract.py). Higher scores
are more anomalous.
"""

from __future__ import annotations

from trainables.detectors.contract import Detector
from trainables.registry import Registry

__all__ = ["DETECTORS", "Detector"]

DETECTORS: Registry[Detector] = Registry("detector", Detector)

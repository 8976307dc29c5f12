"""Copies from the CPU to a device for which no one waits."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on a device, without waiting for a GPU's earlier work if they come from the CPU."""
    if values.device.type == "cpu" and device.type == "cuda":
        values = values.pin_memory()  # only from there can a GPU copy by itself
    return values.to(device, non_blocking=device.type != "cpu")

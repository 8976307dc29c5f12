"""Normalisation of images by the statistics of a run's own training images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainables.data.holdout import Part
from trainables.heartbeat import beat


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, float32 (C,), in units of pixels scaled to 0..1."""

    mean: Tensor
    std: Tensor

    def __call__(self, images_NHWC: Tensor) -> Tensor:
        """Return normalised float32 (B, C, H, W), channels last in memory, from uint8 (B, H, W, C)."""
        scale = 1 / (255 * self.std)
        values = torch.addcmul(-self.mean / self.std, images_NHWC.float(), scale)
        return values.permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> Normalisation:
        """Return the same normalisation on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))


def measure(part: Part, folder: Path | None = None) -> Normalisation:
    """Return the per-channel mean and standard deviation of a part's images, exact to float32.

    With a folder, that of the prepared data, the images are counted once for all runs that train on the same.
    """
    counts = _counted(part) if folder is None else _counted_once(part, folder)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ levels
    std = ((shares @ levels**2) - mean**2).clamp_min(0).sqrt()
    # A channel that is constant over all images carries no information and is left unscaled.
    return Normalisation(mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float())


def _counted(part: Part) -> Tensor:
    """Return how many pixels have each level in each channel, int64 (C, 256)."""
    channels = part.images.channels
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for rows in part.rows.split(4096):
        beat("measuring the images")
        images = part.images.gather(rows).cpu()
        for channel in range(channels):
            counts[channel] += torch.bincount(images[..., channel].flatten(), minlength=256)
    return counts


def _counted_once(part: Part, folder: Path) -> Tensor:
    """Return the counts from a file beside the data, which is written first if it is missing or damaged.

    Its name is a digest of the images that the part's table holds and of the part's own rows. So what was
    counted of one holdout's images, or of a search's, is never used for another, and holds nothing else.
    """
    identity = hashlib.sha256(part.images.digest.encode() + part.rows.numpy().astype("<i8").tobytes())
    path = folder / f"levels-{identity.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        saved = json.loads(path.read_text())
        if saved["digest"] == _digest(saved["counts"]):
            return torch.tensor(saved["counts"], dtype=torch.int64)
    counts = _counted(part)
    written = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs time, and nothing else
        try:
            written.write_text(json.dumps({"counts": counts.tolist(), "digest": _digest(counts.tolist())}))
            os.replace(written, path)
        finally:
            written.unlink(missing_ok=True)
    return counts


def _digest(counts: list[list[int]]) -> str:
    return hashlib.sha256(json.dumps(counts).encode()).hexdigest()

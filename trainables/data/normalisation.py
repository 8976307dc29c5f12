"""Normalisation of images by the statistics of a run's own training images."""

from __future__ import annotations

from dataclasses import dataclass

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


def measure(part: Part) -> Normalisation:
    """Return the per-channel mean and standard deviation of a part's images, exact to float32."""
    channels = part.images.channels
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for rows in part.rows.split(4096):
        beat("measuring the images")
        images = part.images.gather(rows).cpu()
        for channel in range(channels):
            counts[channel] += torch.bincount(images[..., channel].flatten(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ levels
    std = ((shares @ levels**2) - mean**2).clamp_min(0).sqrt()
    # A channel that is constant over all images carries no information and is left unscaled.
    return Normalisation(mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float())

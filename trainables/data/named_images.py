"""Which image sets are scored beside the test images, and how they are brought to the benchmark's size.

This module does not import torch: command lines and plans name image sets, image_sets.py opens them.
"""

from __future__ import annotations

from dataclasses import dataclass

CROP = "crop"
SET_NAME = "[a-z][a-z0-9-]{0,99}"
"""What names of sets match: they become names of files, columns and metrics."""
RESIZES = ("nearest", "box", "bilinear", CROP)


@dataclass(frozen=True)
class NamedImages:
    """A set of unlabelled images: its name, where it is, and how it is resized (image_sets.load_images)."""

    name: str
    path: str
    resize: str | None = None
    crops_per_image: int = 1
    seed: int = 0
    """Seed of the crops."""
    digest: str | None = None
    """The digest that the images must have; None if they were not looked at yet."""

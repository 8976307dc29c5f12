"""Tables of images: the uint8 images of some classes of one split as tensors.

Each class is a separate tensor over a mapping that contains opened classes only, so a table gives no access
to a class or a split that was not opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trainables.data.image_file import OpenedClass, class_digest
from trainables.data.sending import sent

CPU = torch.device("cpu")

JOINED_UP_TO = 64 * 2**20
"""Bytes up to which a table is copied into one tensor on the CPU, which makes gather a single copy."""

SHARE_OF_FREE = 1 / 8
"""Share of a device's free memory that one table may take.

Runs that share a GPU may all start before any of them has its network and activations there, and each then
sees the same free memory. With an eighth for the training images and an eighth for the test images, two such
runs still leave half of it free. A table that stays on the CPU costs little: a batch of 64 images of 256x256
pixels takes a copy of 12.6 MB.
"""


@dataclass(frozen=True)
class ImageTable:
    """The images of some classes of one split, in the benchmark's order of classes.

    `chunks` are uint8 (n, H, W, C): one per class, memory-mapped, or a single one on a device. Rows are
    counted from 0 through the first class, then the second, and so on. `indices`, int64 (n,) and always on
    the CPU, has each row's position in the split's original order. `digest` identifies the table's content.
    Gathered images are on `device`; the chunks may have stayed on the CPU.
    """

    split: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    chunks: list[Tensor]
    indices: Tensor
    digest: str
    device: torch.device = CPU

    @staticmethod
    def of(split: str, opened: Sequence[OpenedClass]) -> ImageTable:
        """Return a table of classes that were opened from a prepared file."""
        described = json.dumps([split, *([c.name, len(c.pixels), c.digest] for c in opened)])
        return ImageTable(
            split=split,
            classes=tuple(c.name for c in opened),
            counts=tuple(len(c.pixels) for c in opened),
            chunks=[torch.from_numpy(c.pixels) for c in opened],
            indices=torch.from_numpy(np.concatenate([c.indices for c in opened])),
            digest=hashlib.sha256(described.encode()).hexdigest(),
        )

    @staticmethod
    def from_arrays(split: str, arrays: Mapping[str, np.ndarray]) -> ImageTable:
        """Return a table of arrays in memory, uint8 (n, H, W, C) by class, in the mapping's order."""
        opened, start = [], 0
        for name, pixels in arrays.items():
            indices = np.arange(start, start + len(pixels), dtype=np.int64)
            start += len(pixels)
            pixels = np.ascontiguousarray(pixels)
            opened.append(OpenedClass(name, pixels, indices, class_digest(indices, pixels)))
        return ImageTable.of(split, opened)

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def home(self) -> torch.device:
        """Where the images are, and where rows should be: the device, or the CPU if they do not fit there."""
        return self.chunks[0].device

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return self.chunks[0].shape[1]

    @property
    def channels(self) -> int:
        """1 for greyscale, 3 for RGB."""
        return self.chunks[0].shape[3]

    def rows_of(self, class_name: str) -> range:
        """Return the rows of a class."""
        place = self.classes.index(class_name)
        start = sum(self.counts[:place])
        return range(start, start + self.counts[place])

    def gather(self, rows: Tensor) -> Tensor:
        """Return the images of these rows, int64 (B,), in order: uint8 (B, H, W, C) on the table's device.

        Raise IndexError for a row outside the table.
        """
        rows = rows.to(self.home)
        gathered = self.chunks[0].index_select(0, rows) if len(self.chunks) == 1 else self._collect(rows)
        return sent(gathered, self.device)

    def _collect(self, rows: Tensor) -> Tensor:
        """Return the images of these rows from several chunks on the CPU."""
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}")
        gathered = torch.empty((len(rows), *self.chunks[0].shape[1:]), dtype=torch.uint8)
        start = 0
        for chunk in self.chunks:
            places = ((rows >= start) & (rows < start + len(chunk))).nonzero()[:, 0]
            if len(places):
                gathered.index_copy_(0, places, chunk.index_select(0, rows[places] - start))
            start += len(chunk)
        return gathered

    def to(self, device: torch.device | str) -> ImageTable:
        """Return the table for use on a device: as one tensor there, if it fits.

        Otherwise its images stay on the CPU and each batch is copied when it is gathered. On the CPU, large
        tables stay mapped and small ones are copied into one tensor.
        """
        device = torch.device(device)
        size = sum(chunk.numel() for chunk in self.chunks)
        home = device if fits(size, free_memory(device)) else CPU
        if len(self.chunks) == 1 or (home.type == "cpu" and size > JOINED_UP_TO):
            chunks = [chunk.to(home) for chunk in self.chunks]
        else:
            chunks = [self._joined(home)]
        return replace(self, chunks=chunks, device=device)

    def _joined(self, device: torch.device) -> Tensor:
        whole = torch.empty((len(self), *self.chunks[0].shape[1:]), dtype=torch.uint8, device=device)
        start = 0
        for chunk in self.chunks:
            whole[start : start + len(chunk)].copy_(chunk)
            start += len(chunk)
        return whole


def free_memory(device: torch.device) -> int | None:
    """Return the free memory of a GPU in bytes, or None for other devices, which are not limited here.

    Memory that this process's allocator holds unused, left by an earlier cell, counts as free.
    """
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def fits(size: int, free: int | None) -> bool:
    """Return whether a table of `size` bytes may be moved to a device with `free` bytes (None: no limit)."""
    return free is None or size <= SHARE_OF_FREE * free

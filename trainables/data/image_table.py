"""Images as tensors: the uint8 images of some classes of one split, and nothing else.

Each class is a tensor of its own over a mapping of opened classes only, so nothing in a table leads to a
class, or a split, that was not opened.
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

CPU = torch.device("cpu")

SMALL = 64 * 2**20
"""Bytes up to which a table is copied into one tensor on the CPU, which makes gather a single copy."""

SHARE_OF_FREE = 1 / 8
"""Share of a device's free memory that one table may take.

Trials that share a GPU may all start before any has its network and activations there, and each then sees
the same memory free: with an eighth for the training images and an eighth for the test images, two such
trials still leave half of it. A table that stays behind costs little: a batch of 64 images of 256x256
pixels is 12.6 MB to copy.
"""


@dataclass(frozen=True)
class ImageTable:
    """The images of some classes of one split, in the benchmark's order of classes.

    `chunks` are uint8 (n, H, W, C): one a class, memory-mapped, or a single one on a device. Rows count
    from 0 through the first class, then the second, and so on; `indices` (int64, always on the CPU) gives
    each row's position in the split's original order. `digest` identifies what was opened by content.
    `device` is where gathered images are; the chunks may have stayed on the CPU.
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
        """A table over classes that were opened from a prepared file."""
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
        """A table over arrays in memory, uint8 (n, H, W, C) by class, in the mapping's order."""
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
    def side(self) -> int:
        """Height and width in pixels."""
        return self.chunks[0].shape[1]

    @property
    def channels(self) -> int:
        """1 for greyscale, 3 for RGB."""
        return self.chunks[0].shape[3]

    def rows_of(self, class_name: str) -> range:
        """The rows of a class."""
        place = self.classes.index(class_name)
        start = sum(self.counts[:place])
        return range(start, start + self.counts[place])

    def gather(self, rows: Tensor) -> Tensor:
        """The images of these rows, int64 (B,), in their order: uint8 (B, H, W, C) on the table's device.

        Raises IndexError for a row that is not the table's.
        """
        rows = rows.to(self.chunks[0].device)
        gathered = self.chunks[0].index_select(0, rows) if len(self.chunks) == 1 else self._collect(rows)
        return gathered.to(self.device)

    def _collect(self, rows: Tensor) -> Tensor:
        """The images of these rows from several chunks on the CPU."""
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
        """The table for use on a device: whole and as one tensor where it fits there.

        Where it does not, its images stay on the CPU and each batch is copied when it is gathered. Large
        tables on the CPU stay mapped, small ones are joined.
        """
        device = torch.device(device)
        size = sum(chunk.numel() for chunk in self.chunks)
        home = device if fits(size, free_memory(device)) else CPU
        if len(self.chunks) == 1 or (home.type == "cpu" and size > SMALL):
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
    """Bytes of a GPU that can still be had; None for other devices, which nothing bounds here.

    What this process's allocator holds without a use for it counts as free: an earlier cell left it.
    """
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def fits(size: int, free: int | None) -> bool:
    """Whether a table of so many bytes may go whole to a device with so many free, None for no bound."""
    return free is None or size <= SHARE_OF_FREE * free

"""Memory of a training process on a CPU."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names for the sizes above which freed memory goes back to the system at once."""
LARGEST, LARGEST_BEFORE = 2**31 - 1, 32 * 2**20
"""What they can be set to: glibc before 2.35 takes no more than 32 MiB for the second."""


@functools.cache
def keep_freed_memory() -> bool:
    """Has this process keep what it frees, once and for all; whether that could be arranged.

    A training step frees and asks again for the same large tensors. glibc returns each of them to the
    system, which then has to hand out and clear fresh pages: CPC's steps take up to 1.6 times as long
    (benchmarks/cpc_speed.py). Other systems' allocators do as they do.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library that is not glibc
        return False
    # In this order: setting the first alone would leave the second at its low start.
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST) == 1 or mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE) == 1
    return kept and mallopt(M_TRIM_THRESHOLD, LARGEST) == 1

"""Memory allocation of a training process on a CPU."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's parameters for the sizes above which freed memory is returned to the system at once."""
LARGEST, LARGEST_BEFORE = 2**31 - 1, 32 * 2**20
"""Their largest values; glibc before 2.35 accepts at most 32 MiB for the second parameter."""


@functools.cache
def keep_freed_memory() -> bool:
    """Make this process keep the memory that it frees; return whether that worked.

    A training step frees and allocates the same large tensors again and again. By default glibc returns each
    of them to the system, which then has to provide and clear new pages: steps on many small patches take up
    to 1.6 times as long. Only Linux with glibc has this setting. The result is cached per process.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library that is not glibc
        return False
    # In this order: setting the trim threshold alone would fix the other one at its low initial value.
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST) == 1 or mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE) == 1
    return kept and bool(mallopt(M_TRIM_THRESHOLD, LARGEST) == 1)

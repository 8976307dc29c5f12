"""Freed memory is kept: allocating a large tensor again needs no new pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.sweeps import ROOT

FAULTS = """
import resource, statistics, torch
from trainables.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def of_one():
    before = faults()
    torch.ones(32 * 2**20)  # 128 MB
    return faults() - before

if {keep}:
    assert keep_freed_memory()
print(int(statistics.median(of_one() for _ in range(40))))
"""


def faults(keep: bool) -> int:
    """Return the number of page faults per tensor, the median of 40 tensors allocated in turn.

    The first few (at most seven in practice) always need new pages: an aligned block needs a little more room
    than the last one left, until an adjacent block is freed.
    """
    code = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_a_new_tensor_reuses_the_memory_of_the_last_one() -> None:
    # 128 MB are 32,768 pages of 4 KB, or 64 of 2 MB where the system hands out large ones.
    assert faults(keep=True) < 16
    assert faults(keep=False) >= 64

"""Freed memory is kept: a large tensor that is made again costs no fresh pages."""

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
    """Pages that the system had to hand out for a tensor, the median of 40 made in turn.

    The first few need fresh pages always: an aligned piece asks for a little more room than the one
    before it left, until a freed neighbour makes up for that (seven were the most seen).
    """
    code = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_a_tensor_made_again_takes_the_memory_of_the_one_before() -> None:
    # 128 MB are 32,768 pages of 4 KB, or 64 of 2 MB where the system hands out large ones.
    assert faults(keep=True) < 16
    assert faults(keep=False) >= 64

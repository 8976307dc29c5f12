"""Errors that say that memory ran out, and those that do not."""

from __future__ import annotations

import pytest
import torch

from orchestrator.execution.memory import GPU, HOST, oom_kills, short_by, short_of
from trainables.failures import DetectorFailed, blamed


def test_errors_are_told_apart() -> None:
    assert short_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")) == GPU
    assert short_of(RuntimeError("CUDA error: out of memory")) == GPU
    assert short_of(MemoryError()) == HOST
    assert short_of(OSError(12, "Cannot allocate memory")) == HOST
    assert short_of(ValueError("out of memory of the war")) is None
    assert short_of(KeyError("x")) is None


def test_what_torch_says_of_a_real_allocation_that_is_too_large() -> None:
    with pytest.raises(DetectorFailed) as caught, blamed(DetectorFailed, "the detector x"):
        torch.empty(2**60)
    assert short_of(caught.value) == HOST


def test_ray_s_words() -> None:
    killed = "1 worker(s) were killed due to the node running low on memory. Memory on the node was 9 GB"
    assert short_by(killed) == HOST
    vanished = (
        "Some common causes include: (1) the process was killed by the OOM killer due to high memory usage"
    )
    assert short_by(vanished) is None


def test_the_kernel_s_count_can_be_read() -> None:
    assert oom_kills() >= 0

"""Whether a machine can run a sweep that exists already, and whether the options go with its cells."""

from __future__ import annotations

import os

import pytest

from orchestrator.machines.devices import check_gpus, device_kind
from trainables.mistake import Mistake


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "said"),
    [
        ("cuda", 1, 0.0, "cells run on GPUs, and --gpus-per-worker 0 reserves none: leave it out"),
        ("cuda", 2, 0.5, "have 2 workers, .* --gpus-per-worker 0.5 is a share of one: give .* 1"),
        ("cpu", 1, 1.0, "cells run on CPUs, and --gpus-per-worker 1 would reserve GPUs .*: give 0"),
        ("cpu", 2, 0.5, "cells run on CPUs"),
    ],
)
def test_gpus_that_do_not_go_with_a_stored_sweep_are_a_mistake(
    device: str, workers: int, gpus: float, said: str
) -> None:
    with pytest.raises(Mistake, match=said):
        check_gpus(gpus, device, workers)


@pytest.mark.parametrize(
    ("device", "workers", "gpus"),
    [
        ("cuda", 1, None),
        ("cuda", 1, 0.25),
        ("cuda", 2, None),
        ("cuda", 2, 1.0),
        ("cuda", 2, 2.0),
        ("cpu", 1, None),
        ("cpu", 1, 0.0),
        ("cpu", 2, 0.0),
    ],
)
def test_gpus_that_go_with_a_stored_sweep_are_none(device: str, workers: int, gpus: float | None) -> None:
    check_gpus(gpus, device, workers)


def test_this_machine_s_cpus_bound_what_runs_on_it_and_not_what_runs_elsewhere() -> None:
    more = float((os.cpu_count() or 1) + 1)
    with pytest.raises(Mistake, match="more than this machine has"):
        device_kind(0.0, more)
    assert device_kind(0.0, more, elsewhere=True) == "cpu"
    assert device_kind(8.0, 1.0, elsewhere=True) == "cuda"

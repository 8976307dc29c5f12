"""Whether a machine can run a sweep that is there already, and whether the options go with its cells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.cli.sweep_options import Options, read_arguments
from orchestrator.machines.devices import check_place
from orchestrator.planning.specification import Specification, complete
from trainables.mistake import Mistake

ELSEWHERE = ("--address", "10.0.0.1:6379")
"""A cluster, so that no GPU is looked for on this machine."""


def options(*words: str) -> Options:
    return read_arguments(["--resume", "--name", "mine", *words])


def stored(device: str, workers: int = 1) -> Specification:
    specification, _ = complete(options().request, tuple("0123456789"))
    return replace(specification, device=device, workers=workers)


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "said"),
    [
        ("cuda", 1, "0", "cells run on GPUs, and --gpus-per-worker 0 reserves none: leave it out"),
        ("cuda", 2, "0.5", "have 2 workers, .* --gpus-per-worker 0.5 is a share of one: give .* 1"),
        ("cpu", 1, "1", "cells run on CPUs, and --gpus-per-worker 1 would reserve GPUs .*: give 0"),
        ("cpu", 2, "0.5", "cells run on CPUs"),
    ],
)
def test_gpus_that_do_not_go_with_a_stored_sweep_are_a_mistake(
    device: str, workers: int, gpus: str, said: str
) -> None:
    given = options("--gpus-per-worker", gpus, *ELSEWHERE)
    with pytest.raises(Mistake, match=said):
        check_place(given, stored(device, workers))


@pytest.mark.parametrize(
    ("device", "workers", "words"),
    [
        ("cuda", 1, ()),
        ("cuda", 1, ("--gpus-per-worker", "0.25")),
        ("cuda", 2, ()),
        ("cuda", 2, ("--gpus-per-worker", "1")),
        ("cuda", 2, ("--gpus-per-worker", "2")),
        ("cpu", 1, ()),
        ("cpu", 1, ("--gpus-per-worker", "0")),
        ("cpu", 2, ("--gpus-per-worker", "0")),
    ],
)
def test_gpus_that_go_with_a_stored_sweep_are_none(device: str, workers: int, words: tuple[str, ...]) -> None:
    check_place(options(*words, *ELSEWHERE), stored(device, workers))

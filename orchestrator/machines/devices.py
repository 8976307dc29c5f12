"""The devices that cells train on: whether this machine has them, and whether they fit a sweep."""

from __future__ import annotations

import os

import torch

from trainables.mistake import Mistake


def device_kind(gpus_per_worker: float | None, cpus_per_worker: float, *, elsewhere: bool = False) -> str:
    """Return "cuda" if each worker gets a GPU or a share of one, else "cpu".

    Without a number of GPUs (None) this machine's decide. Raises Mistake for more than this machine has,
    unless the cells run `elsewhere`, on a cluster.
    """
    gpus, cpus = torch.cuda.device_count(), os.cpu_count() or 1
    if gpus_per_worker and gpus_per_worker > gpus and not elsewhere:
        raise Mistake(f"--gpus-per-worker {gpus_per_worker:g} is more than this machine has: {gpus}.")
    if cpus_per_worker > cpus and not elsewhere:
        raise Mistake(f"--cpus-per-worker {cpus_per_worker:g} is more than this machine has: {cpus}.")
    asked = gpus_per_worker if gpus_per_worker is not None else min(gpus, 1)
    return "cuda" if asked else "cpu"


def check_gpus(gpus_per_worker: float | None, device: str, workers: int) -> None:
    """Raise Mistake for a number of GPUs that does not go with the cells of a sweep that was begun before."""
    if gpus_per_worker is None:
        return
    given = f"--gpus-per-worker {gpus_per_worker:g}"
    if device == "cuda" and not gpus_per_worker:
        raise Mistake(
            f"The sweep's cells run on GPUs, and {given} reserves none: leave it out, which gives each "
            "worker one, or start another sweep to train on CPUs."
        )
    if device == "cpu" and gpus_per_worker:
        raise Mistake(
            f"The sweep's cells run on CPUs, and {given} would reserve GPUs that nothing uses: give 0, or "
            "start another sweep to train on GPUs."
        )
    if 0 < gpus_per_worker < 1 < workers:
        raise Mistake(
            f"The sweep's cells have {workers} workers, which need a GPU each, and {given} is a share of "
            "one: give --gpus-per-worker 1."
        )


def check_gpus_here(device: str) -> None:
    """Raise Mistake if cells need a GPU and this machine has none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Mistake(
            "The sweep's cells run on GPUs, and this machine has none: go on with it where there are "
            "some (--address), or start another sweep."
        )

"""Whether this machine can run what was asked, and on what kind of device."""

from __future__ import annotations

import importlib.util
import os

from orchestrator.cli.sweep_options import Options
from orchestrator.planning.specification import Specification
from trainables.mistake import Mistake


def check_place(options: Options, specification: Specification) -> None:
    """Raises Mistake where this process, or this machine, cannot run the sweep's cells as they are."""
    inline = options.executor == "inline"
    if not inline and importlib.util.find_spec("ray") is None:
        raise Mistake(
            "Ray is not installed here: install the project as its README says, or add --executor inline, "
            "which runs the cells without it."
        )
    if inline and specification.workers > 1:
        raise Mistake(
            f"--executor inline runs in one process, and the sweep's trials have {specification.workers} "
            "workers: leave --executor out, or start another sweep with --workers 1."
        )
    _check_gpus(options, specification)
    if specification.device == "cuda" and (inline or not _address(options)):
        import torch

        if not torch.cuda.is_available():
            raise Mistake(
                "The sweep's cells run on GPUs, and this machine has none: go on with it where there are "
                "some (--address), or start another sweep."
            )


def _check_gpus(options: Options, specification: Specification) -> None:
    """Raises Mistake for GPUs that do not go with the cells of a sweep that was begun before."""
    gpus, workers = options.gpus_per_worker, specification.workers
    if gpus is None:
        return
    given = f"--gpus-per-worker {gpus:g}"
    if specification.device == "cuda" and not gpus:
        raise Mistake(
            f"The sweep's cells run on GPUs, and {given} reserves none: leave it out, which gives each "
            "worker one, or start another sweep to train on CPUs."
        )
    if specification.device == "cpu" and gpus:
        raise Mistake(
            f"The sweep's cells run on CPUs, and {given} would reserve GPUs that nothing uses: give 0, or "
            "start another sweep to train on GPUs."
        )
    if 0 < gpus < 1 < workers:
        raise Mistake(
            f"The sweep's trials have {workers} workers, which need a GPU each, and {given} is a share of "
            "one: give --gpus-per-worker 1."
        )


def _address(options: Options) -> str | None:
    return options.address or os.environ.get("RAY_ADDRESS")


def device_kind(options: Options) -> str:
    """ "cuda" where trials get a share of a GPU, else "cpu"."""
    import torch

    gpus = torch.cuda.device_count()
    elsewhere = _address(options)
    if options.gpus_per_worker and options.gpus_per_worker > gpus and not elsewhere:
        raise Mistake(f"--gpus-per-worker {options.gpus_per_worker:g} is more than this machine has: {gpus}.")
    cpus = os.cpu_count() or 1
    if options.cpus_per_worker > cpus and not elsewhere:
        raise Mistake(f"--cpus-per-worker {options.cpus_per_worker:g} is more than this machine has: {cpus}.")
    asked = options.gpus_per_worker if options.gpus_per_worker is not None else min(gpus, 1)
    return "cuda" if asked else "cpu"

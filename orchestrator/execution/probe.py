"""The probe: how long the parts of a sweep's cells take, measured before it runs, as its cells will run.

As many processes measure beside each other as cells run at once on a machine, each with a cell's threads and
device: processes that share memory and caches are slower than one alone.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

import torch

from orchestrator.execution.cell_paces import measure_kinds, measured
from orchestrator.execution.executor import Executor
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.on_ray import RayExecutor
from orchestrator.execution.resources import Resources, cells_at_once, check_fits
from orchestrator.planning.cells import lay_out
from orchestrator.planning.data import check_data
from orchestrator.planning.forecast import Measured
from orchestrator.planning.request import Draft, Request
from orchestrator.planning.sweep import Sweep, begin, go_on
from trainables.data.prepared import Prepared

WAIT_SECONDS = 300.0
"""How long the processes of a probe wait for the last of them to start."""


def probe(request: Request, draft: Draft | None) -> tuple[Sweep, Prepared, Measured]:
    """Return a sweep, its data, prepared if it was not, and how long the parts of its cells take.

    Raise Mistake for what would keep the sweep from running.
    """
    executor: Executor = InlineExecutor(request) if request.executor == "inline" else RayExecutor(request)
    sweep, prepared = go_on(request) if draft is None else begin(draft, executor.device_kind())
    executor.check(sweep.specification)
    check_data(sweep.specification, prepared)
    assert request.probe is not None
    address = None if request.executor == "inline" else request.address or os.environ.get("RAY_ADDRESS")
    if address is None:
        return sweep, prepared, probe_here(sweep, request, request.probe)
    from orchestrator.execution.probe_on_ray import probe_cluster  # Ray takes seconds to import

    return sweep, prepared, probe_cluster(address, sweep, request, request.probe)


def probe_here(sweep: Sweep, request: Request, seconds: float) -> Measured:
    """Measure the cells of a sweep on this machine, as the executor will run them here."""
    resources = Resources.of(request, sweep.specification)
    at_once = 1
    if request.executor != "inline":
        here = [{"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}]
        check_fits(resources, here)
        at_once = cells_at_once(resources, here)
    processes = min(at_once * resources.workers, len(lay_out(sweep.specification, "").all()))
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(processes)
    with ProcessPoolExecutor(processes, spawn, _wait_for_all, (together,)) as pool:
        devices = _devices(processes, resources.gpus_per_worker)
        found = list(pool.map(measure_kinds, [sweep] * processes, [seconds] * processes, devices))
    return measured(found, seconds, "this machine", at_once, request.executor)


def _wait_for_all(together: Barrier) -> None:
    """Begin with the other processes."""
    together.wait(WAIT_SECONDS)


def _devices(processes: int, gpus: float) -> list[str | None]:
    """Return which GPU each process sees, as CUDA_VISIBLE_DEVICES has it; None where cells have none."""
    if not gpus:
        return [None] * processes
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    return [known[int(place * min(gpus, 1.0)) % len(known)] for place in range(processes)]

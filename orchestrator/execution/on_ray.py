"""The executor on Ray: its checks need no Ray, so they cost no seconds; the run is in tune.py."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.cli.steps import step
from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.execution.executor import Executor
from orchestrator.execution.resources import Resources
from orchestrator.machines.devices import check_gpus, check_gpus_here, device_kind
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.planning.sweep import Sweep
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from orchestrator.execution.tune import Room

UNSAID = ("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
"""Set before Ray is imported: what its processes say of their workers' deaths is said in a sentence."""


class RayExecutor(Executor):
    """Runs cells as the trials of one Tune run, on the cluster at an address or on a Ray of this machine."""

    tracking_is_optional = False

    def __init__(self, request: Request) -> None:
        """Raise Mistake if Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise Mistake(
                "Ray is not installed here: install the project as its README says, or add --executor "
                "inline, which runs the cells without it."
            )
        self._request = request
        self._started = contextlib.ExitStack()
        self._room: Room | None = None
        self._address = request.address or os.environ.get("RAY_ADDRESS")

    def device_kind(self) -> str:
        """Return "cuda" if workers get GPUs, else "cpu"; of a cluster its own machines count."""
        gpus = self._request.gpus_per_worker
        if self._address and gpus is None:
            from orchestrator.execution.tune import cluster_has_gpus

            gpus = float(cluster_has_gpus(self._address))
        return device_kind(gpus, self._request.cpus_per_worker, elsewhere=bool(self._address))

    def check(self, specification: Specification) -> None:
        """Raise Mistake if the GPUs that were asked for do not go with the sweep's cells."""
        check_gpus(self._request.gpus_per_worker, specification.device, specification.workers)
        if not self._address:
            check_gpus_here(specification.device)

    @contextlib.contextmanager
    def ready(self, sweep: Sweep) -> Iterator[None]:
        """Start Ray, or connect to it; raise Mistake if the sweep's cells cannot run on it."""
        os.environ.setdefault(*UNSAID)
        from orchestrator.execution.tune import ray_ready  # Ray takes seconds to import

        resources = Resources.of(self._request, sweep.specification)
        with self._started:
            with step(f"Connecting to Ray at {self._address}" if self._address else "Starting Ray"):
                self._room = self._started.enter_context(ray_ready(self._address, sweep, resources))
            yield

    def run(self, dispatcher: Dispatcher, sweep: Sweep) -> None:
        """Run the plan to its end, and end Ray."""
        from orchestrator.execution.tune import run_on_ray

        assert self._room is not None
        with self._started:
            run_on_ray(dispatcher, sweep, Resources.of(self._request, sweep.specification), self._room)

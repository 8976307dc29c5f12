"""The executor on Ray: its checks need no Ray, so they cost no seconds; the run is in tune.py."""

from __future__ import annotations

import importlib.util
import os

from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.execution.executor import Executor
from orchestrator.execution.resources import Resources
from orchestrator.machines.devices import check_gpus, check_gpus_here, device_kind
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.planning.sweep import Sweep
from trainables.mistake import Mistake


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
        self._address = request.address or os.environ.get("RAY_ADDRESS")

    def device_kind(self) -> str:
        """Return "cuda" if workers get GPUs, else "cpu"; on a cluster this machine's own do not count."""
        elsewhere = bool(self._address)
        return device_kind(self._request.gpus_per_worker, self._request.cpus_per_worker, elsewhere=elsewhere)

    def check(self, specification: Specification) -> None:
        """Raise Mistake if the GPUs that were asked for do not go with the sweep's cells."""
        check_gpus(self._request.gpus_per_worker, specification.device, specification.workers)
        if not self._address:
            check_gpus_here(specification.device)

    def run(self, dispatcher: Dispatcher, sweep: Sweep) -> None:
        """Start Ray, or connect to it, and run the plan to its end."""
        from orchestrator.execution.tune import run_on_ray  # Ray takes seconds to import

        resources = Resources.of(self._request, sweep.specification)
        gpus_named = self._request.gpus_per_worker is not None
        run_on_ray(self._address, dispatcher, sweep, resources, gpus_named=gpus_named)

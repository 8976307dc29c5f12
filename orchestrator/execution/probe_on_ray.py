"""The probe on a cluster: on a node that would train, as many at once as that node runs cells."""

from __future__ import annotations

import ray

from orchestrator.execution.cell_paces import measure_kinds, measured
from orchestrator.execution.resources import Resources, cells_at_once, check_fits
from orchestrator.execution.scratch import scratch_folder
from orchestrator.execution.tune import ray_started
from orchestrator.machines.cluster_file import nodes_at_most
from orchestrator.machines.nodes import live_nodes
from orchestrator.planning.forecast import Measured
from orchestrator.planning.request import Request
from orchestrator.planning.sweep import Sweep
from trainables.mistake import Mistake

WAIT_SECONDS = 600.0
"""How long a node may take for its data and the probe beyond the seconds that were asked for."""


def probe_cluster(address: str, sweep: Sweep, request: Request, seconds: float) -> Measured:
    """Measure the cells of a sweep on the node that runs most of them; raise Mistake if none answers."""
    resources = Resources.of(request, sweep.specification)
    with scratch_folder() as own, ray_started(address, own):
        nodes = nodes_at_most()
        check_fits(resources, nodes)
        node = max(live_nodes(), key=lambda node: cells_at_once(resources, [node.resources]))
        processes = max(1, cells_at_once(resources, [node.resources])) * resources.workers
        task = ray.remote(
            num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=0
        )(measure_kinds)
        pinned = task.options(label_selector=None, resources={f"node:{node.address}": 0.001})
        calls = [pinned.remote(sweep, seconds) for _ in range(processes)]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=seconds + WAIT_SECONDS)
        if late:
            raise Mistake(
                f"The probe on {node} did not end: other work may hold its CPUs or GPUs; try again later, or "
                "leave --probe out."
            )
        found = ray.get(done)
    return measured(found, seconds, str(node), cells_at_once(resources, nodes), request.executor)

"""What the doctor says of a cluster: whether it answers, which machines are absent, how each node is."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.machines.cluster_file import absent_machines
from orchestrator.machines.findings import Finding, node_findings, wrong
from orchestrator.machines.nodes import Unreachable, ask, connected, dead_nodes, live_nodes, reason_of
from orchestrator.machines.probe import MachineReport, ProbeRequest, examine

NODE_SECONDS = 120


def check_cluster(
    address: str, request: ProbeRequest, here: MachineReport, pins: dict[str, str]
) -> Iterator[Finding]:
    """Yield findings on the cluster at an address, node by node; `here` is this machine's own report."""
    try:
        with connected(address):
            nodes = live_nodes()
            yield Finding(f"The cluster at {address} has {len(nodes)} live nodes.")
            gone = dead_nodes()
            for absent in absent_machines():
                what = "is in the cluster's file and has not joined"
                if absent in gone:
                    what = f"had joined the cluster and left it ({gone[absent]})"
                yield wrong(
                    f"{absent}: the machine {what}: log in there and run this command, and see monitor.out "
                    "in the head's /tmp/ray/session_latest/logs."
                )
            answers = ask(nodes, examine, request, seconds=NODE_SECONDS)
            for node in nodes:
                answer = answers[node.id]
                if isinstance(answer, Exception):
                    yield wrong(f"{node}: the node gives no answer ({reason_of(answer)}).")
                else:
                    yield from node_findings(str(node), answer, here, node.resources, pins)
    except Unreachable as error:
        yield wrong(f"No Ray cluster can be reached at {address} ({error}).")

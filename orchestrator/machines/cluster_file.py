"""What a cluster's own file, which `ray up` leaves on the head, says of the nodes that may still come.

Everything here is called with Ray started. Elsewhere than on the head, and where there is no file, the live
nodes are all there is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray.util import get_node_ip_address

from orchestrator.machines.nodes import live_nodes

CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves the file on the head; it is written as JSON."""


def nodes_at_most() -> list[dict[str, float]]:
    """Return the resources of every node that the cluster has once it has grown to its maximum."""
    nodes = live_nodes()
    live = [node.resources for node in nodes]
    config = _read_file()
    if config is None:
        return live
    room = int(config.get("max_workers", 0))
    grown = [node.resources for node in nodes if node.is_head]
    types = [
        node_type
        for name, node_type in config["available_node_types"].items()
        if _is_added(config, name) and node_type.get("max_workers")
    ]
    for node_type in sorted(types, key=lambda node_type: -node_type["resources"].get("GPU", 0)):
        count = min(room, int(node_type["max_workers"]))
        # A file for machines of your own does not say what they have; they are assumed to equal the head.
        grown += [node_type["resources"] or grown[0]] * count
        room -= count
    return grown if len(grown) > len(live) else live


def may_grow() -> bool:
    """Return whether machines may join that are not there yet."""
    return len(nodes_at_most()) > len(live_nodes())


def absent_machines() -> list[str]:
    """Return the addresses of machines of your own that the file lists and that have not joined."""
    provider = (_read_file() or {}).get("provider", {})
    present = {node.address for node in live_nodes()}
    return [address for address in provider.get("worker_ips", []) if address not in present]


def _is_added(config: dict[str, Any], name: str) -> bool:
    """Return whether nodes of a type are added; those of the head's type are only if there is no other."""
    return name != config["head_node_type"] or len(config["available_node_types"]) == 1


def _read_file() -> dict[str, Any] | None:
    """Return the file of the cluster whose head this machine is; None if it is no head or has no file."""
    path = Path(CLUSTER_FILE).expanduser()
    own = get_node_ip_address()
    if not path.exists() or not any(node.is_head and node.address == own for node in live_nodes()):
        return None
    config: dict[str, Any] = json.loads(path.read_text())
    return config

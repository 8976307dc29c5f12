"""How large a cluster can grow and which machines are absent, on a Ray of two nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed on this system")

from orchestrator.machines.cluster_file import absent_machines, may_grow, nodes_at_most
from orchestrator.machines.nodes import Node


def write_cluster_file(home: Path, **changes: object) -> None:
    """Leave a cluster's file on this "head", as ray up does."""
    values = {
        "max_workers": 5,
        "head_node_type": "head",
        "provider": {"type": "aws"},
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "max_workers": 0},
            "cpu": {"resources": {"CPU": 16}, "max_workers": 4},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 3},
        },
        **changes,
    }
    (home / "ray_bootstrap_config.yaml").write_text(json.dumps(values))


def test_the_most_that_a_cluster_can_hold_is_read_from_its_file(nodes: list[Node], home: Path) -> None:
    assert nodes_at_most() == [node.resources for node in nodes]
    assert not may_grow()
    write_cluster_file(home)
    head, *added = nodes_at_most()
    assert head == nodes[0].resources
    assert added == [{"CPU": 8, "GPU": 1}] * 3 + [{"CPU": 16}] * 2, "five in all, those with GPUs first"
    assert may_grow()


def test_machines_of_ones_own_that_have_not_joined_are_named(nodes: list[Node], home: Path) -> None:
    here = nodes[0].address
    write_cluster_file(
        home,
        max_workers=2,
        provider={"type": "local", "head_ip": here, "worker_ips": [here, "10.1.2.3"]},
        head_node_type="local.cluster.node",
        available_node_types={"local.cluster.node": {"resources": {}, "max_workers": 2}},
    )
    assert absent_machines() == ["10.1.2.3"]
    assert nodes_at_most() == [nodes[0].resources] * 3

"""What tests of several modules share: a Ray of two nodes, a home folder, and this machine's report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.machines.file_systems import Disk
from orchestrator.machines.probe import Gpus, MachineReport, ProbeRequest, examine

if TYPE_CHECKING:
    from orchestrator.machines.nodes import Node


@dataclass(frozen=True)
class TwoNodes:
    """A Ray of a head without CPUs and one worker node, to which this process is connected."""

    address: str
    nodes: list[Node]


@pytest.fixture(scope="package")
def cluster() -> Iterator[TwoNodes]:
    """The two nodes; real machines are in tests/cluster."""
    import ray
    from ray.cluster_utils import Cluster

    from orchestrator.machines.nodes import live_nodes

    made = Cluster()
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_AUTH_MODE", "disabled")
            made.add_node(num_cpus=0, include_dashboard=False)  # the first one is the head
            made.add_node(num_cpus=1)
            ray.init(address=made.address, log_to_driver=False, logging_level=logging.CRITICAL)
        made.wait_for_nodes(timeout=120)
        yield TwoNodes(made.address, live_nodes())
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="package")
def nodes(cluster: TwoNodes) -> list[Node]:
    """The live nodes of the Ray of two nodes."""
    return cluster.nodes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, without a cluster's file, token or password."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def report() -> MachineReport:
    """This machine's report, with enough room and without GPUs."""
    found = examine(ProbeRequest())
    return replace(found, disks=(Disk("/tmp", "Ray's files", 10 * 2**30, 20 * 2**30),), gpus=Gpus())

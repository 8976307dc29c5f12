"""What a sweep asks of a cluster's nodes, on a Ray of two nodes; real machines are in tests/cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps import ROOT

pytest.importorskip("ray", reason="Ray is not installed on this system")

import ray
from ray.cluster_utils import Cluster

from orchestrator.machines import nodes as cluster
from orchestrator.machines.probe import Asked, Condition, on_network
from orchestrator.planning.data import data_request
from orchestrator.planning.request import Request, draft
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[cluster.Node]]:
    """A Ray of a head without CPUs and one worker node, to which this process is connected."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            made.add_node(num_cpus=1)
            ray.init(address=made.address, log_to_driver=False, logging_level="CRITICAL")
            made.wait_for_nodes(timeout=120)
            yield cluster.live_nodes()
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a cluster's file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def digits_request(tmp_path_factory: pytest.TempPathFactory) -> DataRequest:
    """The digits, prepared in a folder of the tests."""
    specification = draft(Request()).complete("cpu", tuple("0123456789"))
    cache = str(tmp_path_factory.mktemp("cache"))
    return data_request(specification, "./data", cache=cache, download=False)


def test_every_node_answers_even_one_without_cpus(nodes: list[cluster.Node], tmp_path: Path) -> None:
    assert [node.is_head for node in nodes] == [True, False]
    answers = cluster.conditions(nodes, Asked(data=str(tmp_path / "nothing")))
    assert answers.keys() == {node.id for node in nodes}
    for answer in answers.values():
        assert isinstance(answer, Condition)
        assert "nothing is not there" in answer.data_error


def test_nodes_that_read_and_write_let_the_sweep_start(
    nodes: list[cluster.Node], home: Path, digits_request: DataRequest
) -> None:
    fingerprint = prepare(digits_request).fingerprint
    cluster.check_nodes(str(home / "storage"), digits_request, fingerprint)
    assert list((home / "storage").iterdir()) == [], "the probe is removed"


def test_data_that_a_node_cannot_read_is_refused_in_one_sentence(
    nodes: list[cluster.Node], home: Path, digits_request: DataRequest
) -> None:
    with pytest.raises(
        Mistake, match=r"^The data cannot be read on .*\(.*\(.*\).*\): it has to stand"
    ) as raised:
        cluster.check_nodes(str(home), digits_request, "0" * 64)
    assert "\n" not in str(raised.value)


def test_a_storage_that_cannot_be_written_is_refused(
    nodes: list[cluster.Node], home: Path, digits_request: DataRequest
) -> None:
    (home / "file").write_text("")
    with pytest.raises(Mistake, match="cannot be written"):
        cluster.check_nodes(str(home / "file"), digits_request, "")


def bootstrap(home: Path, **changes: object) -> None:
    """Leaves a cluster's file on this "head", as ray up does."""
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


def test_the_most_that_a_cluster_can_hold_is_read_from_its_file(
    nodes: list[cluster.Node], home: Path
) -> None:
    assert cluster.nodes_at_most() == [node.resources for node in nodes]
    assert not cluster.may_grow()
    bootstrap(home)
    head, *added = cluster.nodes_at_most()
    assert head == nodes[0].resources
    assert added == [{"CPU": 8, "GPU": 1}] * 3 + [{"CPU": 16}] * 2, "five in all, those with GPUs first"
    assert cluster.may_grow()


def test_machines_of_ones_own_that_have_not_joined_are_named(nodes: list[cluster.Node], home: Path) -> None:
    here = nodes[0].address
    bootstrap(
        home,
        max_workers=2,
        provider={"type": "local", "head_ip": here, "worker_ips": [here, "10.1.2.3"]},
        head_node_type="local.cluster.node",
        available_node_types={"local.cluster.node": {"resources": {}, "max_workers": 2}},
    )
    assert cluster.absent_machines() == ["10.1.2.3"]
    assert cluster.nodes_at_most() == [nodes[0].resources] * 3


def test_nobody_listening_is_found_out_at_once() -> None:
    with pytest.raises(cluster.Unreachable, match="refused"):
        cluster.check_listens("127.0.0.1:9")


def test_a_folder_of_this_machine_is_no_network_folder(tmp_path: Path) -> None:
    assert not on_network("/proc")
    assert not on_network(str(tmp_path / "not" / "there"))


def test_a_sweep_without_an_address_does_not_join_the_machine_s_cluster(nodes: list[cluster.Node]) -> None:
    code = """
import ray
from orchestrator.execution.tune import ray_started
with ray_started(None):
    print(len(ray.nodes()))
"""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.stdout.split() == ["1"], done.stdout + done.stderr  # the other one has two nodes

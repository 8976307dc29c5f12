"""The doctor on a Ray of two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.machines.conftest import TwoNodes
from tests.sweeps import ROOT

pytest.importorskip("ray", reason="Ray is not installed on this system")


def test_every_node_of_a_cluster_is_looked_at(cluster: TwoNodes, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"123")
    words = ["--address", cluster.address, "--storage", f"{tmp_path}/runs", "--data", f"{tmp_path}/images"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.doctor", *words],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert f"The cluster at {cluster.address} has 2 live nodes." in done.stdout
    for node in cluster.nodes:
        assert f"WRONG  {node}: Ray asks for no token" in done.stdout
    assert "the storage" not in done.stdout, "both nodes share it"
    assert "the data" not in done.stdout, "both nodes have the same"
    assert not (tmp_path / "runs").exists()

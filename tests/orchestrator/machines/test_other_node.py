"""A sweep whose cells run on a node that has never had the plug-in's file."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed on this system")

from tests.orchestrator.execution.test_resuming import end
from tests.orchestrator.machines.conftest import TwoNodes
from tests.plugins import WHOLE
from tests.sweeps import PLAIN, ROOT, cells, command

WHERE = '''

class Where(Norm):
    """Writes down the node and the process that it scores on."""

    name = "where"

    def score(self, features, logits):
        import ray

        node = ray.get_runtime_context().get_node_id()
        with open(FOLDER + "/" + node, "a") as file:
            file.write(f"{os.getpid()}\\n")
        return super().score(features, logits)
'''


@pytest.mark.slow
def test_cells_run_where_the_file_has_never_been(cluster: TwoNodes, tmp_path: Path) -> None:
    """The file is removed before a cell begins; the head, on which the driver is, has no CPUs for any."""
    head, worker = cluster.nodes
    for name in ("driver", "storage", "nodes"):
        (tmp_path / name).mkdir()
    file = tmp_path / "driver" / "mine.py"
    file.write_text(f"{WHOLE}{WHERE}\n\nFOLDER = {str(tmp_path / 'nodes')!r}\n")
    words = ["shades", "--methods", "classification", "negative", "--holdouts", "b", "--seeds", "1"]
    words += ["--plugin", "mine.py", "--detectors", "msp", "norm", "where"]
    words += ["--address", cluster.address, "--storage", tmp_path / "storage", "--name", "sweep"]
    driver = subprocess.Popen(
        command(*words),
        cwd=tmp_path / "driver",
        env={**os.environ, **PLAIN, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    sweep = tmp_path / "storage" / "sweep"
    try:
        limit = time.monotonic() + 120
        while not (sweep / "sweep.json").exists():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < limit
            time.sleep(0.02)
        file.unlink()
        assert not (sweep / "cells").exists(), "no cell has begun"
        out, err = driver.communicate(timeout=300)
    finally:
        end(driver)
    assert driver.returncode == 0, out + err
    found = cells(sweep)
    assert len(found) == 3
    finals = [found[f"{method}/b/s0"] / "result.json" for method in ("classification", "negative")]
    processes = {str(json.loads(result.read_text())["attempt"]["process"]) for result in finals}
    wrote = {path.name: path.read_text().split() for path in (tmp_path / "nodes").iterdir()}
    assert head.id not in wrote
    assert len(wrote[worker.id]) == 2
    assert set(wrote[worker.id]) == processes

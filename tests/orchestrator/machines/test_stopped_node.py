"""A machine of a cluster whose raylet stands still: its cell goes on elsewhere, from its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed on this system")

from tests.orchestrator.execution.test_resuming import end, newest_epoch
from tests.sweeps import PLAIN, cells, command, only_sweep

PATIENCE = 600
ONE_CELL = ["--holdouts", "3", "--seeds", "1", "--methods", "classification"]
LONG = ["--set", "epochs=900", "ap_window=1", "checkpoint_seconds=0"]
"""A cell that takes minutes: its process trains on until Ray has found out, after one or so."""


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[int]]]:
    """The address of a head without CPUs and two nodes with one each, and the pids of their raylets."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Cluster()
    raylets: list[int] = []
    try:
        made.add_node(num_cpus=0, include_dashboard=False)
        for _ in range(2):
            node = made.add_node(num_cpus=1)
            raylets.append(node.all_processes["raylet"][0].process.pid)
        yield made.address, raylets
    finally:
        for raylet in raylets:
            os.kill(raylet, signal.SIGCONT)
        made.shutdown()


def works_for(raylet: int) -> bool:
    """Return whether a raylet has a process that runs a trial."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == raylet and b"ImplicitFunc" in title:
                return True
    return False


@pytest.mark.slow
def test_a_stopped_raylet_s_cell_goes_on_on_another_node(
    two_workers: tuple[str, list[int]], tmp_path: Path
) -> None:
    address, raylets = two_workers
    driver = subprocess.Popen(
        command(*ONE_CELL, "--address", address, "--storage", tmp_path, *LONG),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **PLAIN},
    )
    assert driver.stderr is not None
    try:
        limit = time.monotonic() + PATIENCE
        while newest_epoch(tmp_path) < 3:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < limit
            time.sleep(0.05)
        (busy,) = [raylet for raylet in raylets if works_for(raylet)]
        os.kill(busy, signal.SIGSTOP)
        stopped, said, noticed = time.monotonic(), [], 0.0
        for line in driver.stderr:
            said.append(line)
            if "failed" in line and not noticed:
                noticed = time.monotonic() - stopped
        assert driver.wait(PATIENCE) == 0, "".join(said)
    finally:
        end(driver)
    print(f"noticed after {noticed:.0f} s")
    assert 0 < noticed < 180, "".join(said)
    (cell,) = cells(only_sweep(tmp_path)).values()
    attempt = json.loads((cell / "result.json").read_text())["attempt"]
    assert attempt["number"] == 2
    assert attempt["resumed_after_epoch"] >= 3

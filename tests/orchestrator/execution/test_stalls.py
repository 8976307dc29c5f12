"""Cells that stand still on a real Ray: they are noticed, ended, and go on from their checkpoint."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.orchestrator.execution.test_resuming import (
    PATIENCE,
    end,
    newest_epoch,
    only_trial,
    parent_is,
    title,
)
from tests.sweeps import PLAIN, cells, command, only_sweep

ONE_CELL = ["--holdouts", "3", "--seeds", "1", "--methods", "classification"]
LONG = ["--set", "epochs=15", "ap_window=1", "checkpoint_seconds=0", "stall_seconds=12"]


def begun(storage: Path, *words: str) -> subprocess.Popen:
    """A sweep of one cell that has reached its third epoch."""
    process = subprocess.Popen(
        command(*ONE_CELL, *words, "--storage", storage, *LONG),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **PLAIN},
    )
    limit = time.monotonic() + PATIENCE
    while newest_epoch(storage) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return process


def stopped(
    storage: Path, whom: Callable[[subprocess.Popen], int], *words: str, how: int = signal.SIGSTOP
) -> tuple[dict, list[str]]:
    """Strike a process of a sweep; return the cell's account of its attempt, and what was said."""
    process = begun(storage, *words)
    try:
        os.kill(whom(process), how)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 0, err
    (cell,) = cells(only_sweep(storage)).values()
    return json.loads((cell / "result.json").read_text())["attempt"], err.splitlines()


@pytest.mark.slow
def test_a_stopped_trial_is_noticed_and_its_cell_goes_on(tmp_path: Path) -> None:
    attempt, said = stopped(tmp_path, only_trial)
    assert attempt["number"] == 2, said
    assert attempt["resumed_after_epoch"] >= 2
    (line,) = [each for each in said if each.startswith("classification/3/s0 failed")]
    told = r"no progress in .+ for 1[2-9] s, on .+, which gives no sign of life"
    (cell,) = cells(only_sweep(tmp_path)).values()
    records = [json.loads(path.read_text()) for path in sorted((cell / "attempts").glob("*.json"))]
    assert [record["ending"] for record in records] == ["stalled", "done"]
    assert records[0]["error"] in line
    assert re.fullmatch(rf"classification/3/s0 failed \({told}\); it is tried again\.", line)


def second_worker(driver: subprocess.Popen) -> int:
    found = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and "RayTrainWorker" in title(folder) and parent_is(folder, driver.pid)
    ]
    assert len(found) == 2
    return max(found)


@pytest.mark.slow
def test_a_group_of_which_one_worker_is_stopped_is_ended_as_a_whole(tmp_path: Path) -> None:
    attempt, said = stopped(tmp_path, second_worker, "--workers", "2")
    assert attempt["number"] == 2, said
    assert attempt["resumed_after_epoch"] >= 2
    (line,) = [each for each in said if each.startswith("classification/3/s0 failed")]
    assert re.search(r"no progress in .+ for 1[2-9] s, worker [01] on .+, which gives no sign of life", line)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_group_that_nobody_looks_after_leaves_its_place_to_the_next(tmp_path: Path, how: int) -> None:
    attempt, said = stopped(tmp_path, only_trial, "--workers", "2", how=how)
    assert attempt["number"] <= 2, said
    assert any("died" in each or "no progress" in each for each in said), said

"""Trials of two workers through Ray Train: a sweep, a dead worker, a dead driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.orchestrator.execution.test_resuming import PATIENCE, newest_epoch, parent_is, title
from tests.sweeps import cells, command, comparable, only_sweep, run

ONE_CELL = [
    "--workers",
    "2",
    "--holdouts",
    "3",
    "--seeds",
    "1",
    "--methods",
    "rotation",
    "--aux-weight",
    "0.1",
]
LONG = ["--set", "epochs=30", "ap_window=1", "checkpoint_seconds=0"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    done = run(*ONE_CELL, "--storage", storage, *LONG)
    assert done.returncode == 0, done.stderr
    return storage


def started(storage: Path) -> subprocess.Popen:
    """A sweep that has reached its third epoch."""
    process = subprocess.Popen(
        command(*ONE_CELL, "--storage", storage, *LONG),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + PATIENCE
    while newest_epoch(storage) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_two_workers_end_with_a_table_and_an_accuracy_like_one_s(tmp_path: Path) -> None:
    accuracy = {}
    for workers in ("1", "2"):
        storage = tmp_path / workers
        words = ["--workers", workers, "--holdouts", "3", "8", "--seeds", "1", "--aux-weight", "0.1"]
        done = run(*words, "--storage", storage)
        assert done.returncode == 0, done.stderr
        assert any(line.startswith("average  ") for line in done.stdout.splitlines())
        for label, folder in cells(only_sweep(storage)).items():
            result = json.loads((folder / "result.json").read_text())
            accuracy[workers, label] = result["values"]["final/test_accuracy"]
    ones = [value for (workers, _), value in accuracy.items() if workers == "1"]
    twos = [value for (workers, _), value in accuracy.items() if workers == "2"]
    assert len(ones) == len(twos) == 4
    # Four runs each, whose seeds differ by half a point; twice the images a step may cost another half.
    assert abs(sum(ones) - sum(twos)) / 4 < 0.015


@pytest.mark.slow
def test_a_dead_worker_costs_at_most_an_epoch(undisturbed: Path, tmp_path: Path) -> None:
    process = started(tmp_path)
    workers = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and "RayTrainWorker" in title(folder) and parent_is(folder, process.pid)
    ]
    assert len(workers) == 2
    reached = newest_epoch(tmp_path)
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    (cell,) = cells(only_sweep(tmp_path)).values()
    attempt = json.loads((cell / "result.json").read_text())["attempt"]
    assert attempt["number"] == 2
    assert attempt["resumed_after_epoch"] >= reached - 1
    (other,) = cells(only_sweep(undisturbed)).values()
    assert comparable(cell) == comparable(other)


@pytest.mark.slow
def test_a_dead_driver_s_group_is_resumed_within_its_cell(undisturbed: Path, tmp_path: Path) -> None:
    process = started(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reached = newest_epoch(tmp_path)
    resumed = run(*ONE_CELL, "--storage", tmp_path, *LONG, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    (cell,) = cells(only_sweep(tmp_path)).values()
    assert json.loads((cell / "result.json").read_text())["attempt"]["resumed_after_epoch"] >= reached
    (other,) = cells(only_sweep(undisturbed)).values()
    assert comparable(cell) == comparable(other)


def test_what_each_worker_died_of_is_said_in_one_line() -> None:
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    from orchestrator.execution.dispatcher import describe
    from orchestrator.execution.train_group import GroupFailed, in_words

    own = UserExceptionWithTraceback(RuntimeError("CUDA out of memory\nTried to"), "Traceback (most recent")
    failed = WorkerGroupError("[Rank 0 Error Snippet]:", {3: ValueError("gone"), 0: own})
    assert in_words(failed) == "worker 0: RuntimeError: CUDA out of memory; worker 3: ValueError: gone"
    assert in_words(ControllerError(OSError("no room"))) == "OSError: no room"
    assert describe(GroupFailed(in_words(failed))).startswith("GroupFailed: worker 0: RuntimeError: CUDA")

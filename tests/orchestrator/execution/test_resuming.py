"""Sweeps and trials that are killed, and cells that fail: nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.planning.cells import lay_out
from orchestrator.planning.request import Request, draft
from tests.sweeps import PLAIN, SMALL, assert_equal_sweeps, cells, command, only_sweep, run
from trainables.data.prepared import Prepared

PATIENCE = 600
"""Seconds after which something hangs: starting alone takes 10 s here, and 30 s beside another suite."""


def kill_when(line: list[str], started: Path, pattern: str, after: float = 0.0) -> None:
    """Starts a command in a process group of its own and kills the group once a file appears."""
    process = subprocess.Popen(
        line,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **PLAIN},
    )
    try:
        limit = time.monotonic() + PATIENCE
        while not list(started.glob(pattern)):
            assert process.poll() is None, "the sweep ended before it was killed"
            assert time.monotonic() < limit
            time.sleep(0.05)
        time.sleep(after)
    finally:
        end(process)


def end(process: subprocess.Popen) -> None:
    """Kills a process with its group, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_driver_s_sweep_resumes_exactly(tmp_path: Path) -> None:
    undisturbed = run(*SMALL, "--executor", "inline", "--storage", tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    words = [*SMALL, "checkpoint_seconds=0", "--storage", tmp_path / "killed"]
    kill_when(command(*words), tmp_path / "killed", "*/cells/*/result.json", after=0.4)
    before = len(cells(only_sweep(tmp_path / "killed")))
    assert 1 <= before < 12
    resumed = run(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_sweeps(only_sweep(tmp_path / "undisturbed"), only_sweep(tmp_path / "killed"))
    assert_tracked_once(tmp_path / "killed", 13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "searches"),
    [
        (["--lambda-trials", "3"], 6),
        (["--lambda-trials", "9", "--halving", "3"], 18),
        (["--lambda-trials", "9", "--halving", "3", "--executor", "inline"], 18),
    ],
)
def test_a_sweep_killed_five_times_ends_as_an_undisturbed_one(
    tmp_path: Path, how: list[str], searches: int
) -> None:
    """Twice while it starts, and thrice after some more results; each time the same command goes on."""
    words = ["--holdouts", "3", "8", "--seeds", "3", *how]
    words += ["--set", "epochs=20", "ap_window=2", "checkpoint_seconds=0"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    done = run(*words, "--storage", undisturbed)
    assert done.returncode == 0, done.stderr
    moments, before = random.Random(2), 0
    for number in range(5):
        resume = ["--resume"] if list(killed.glob("*/sweep.json")) else []
        process = subprocess.Popen(
            command(*words, "--storage", killed, *resume),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if number in (0, 2):
                time.sleep(moments.uniform(2, 8))
            else:
                wanted = before + moments.randint(1, 4)
                wait_for(lambda: reached(killed) >= wanted, process)  # noqa: B023
            assert process.poll() is None, f"the sweep ended before kill {number + 1}"
        finally:
            end(process)
        assert reached(killed) >= before
        before = reached(killed)
    assert before > 0
    assert len(list(killed.glob("*/cells/*/result.json"))) < 12 + searches
    resumed = run(*words, "--storage", killed, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_sweeps(only_sweep(undisturbed), only_sweep(killed))
    assert_tracked_once(killed, 13 + searches, epochs=None if "--halving" in how else 20)


def reached(storage: Path) -> int:
    """How many results and records of rungs a sweep has."""
    return sum(len(list(storage.glob(f"*/cells/*/{name}"))) for name in ("result.json", "rung-*.json"))


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, "the sweep ended before it was killed"
        assert time.monotonic() < limit
        time.sleep(0.05)


def assert_tracked_once(storage: Path, runs: int, epochs: int | None = 3) -> None:
    """One run a cell and one of the sweep, none RUNNING, one point per epoch; None for any number of them."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments() if e.name.startswith("digits")]
    found = client.search_runs(experiments, max_results=1000)
    assert len(found) == runs
    assert {r.info.status for r in found} == {"FINISHED"}
    for tracked in found:
        if tracked.data.tags["kind"] != "summary":
            steps = [point.step for point in client.get_metric_history(tracked.info.run_id, "train/loss")]
            assert steps == list(range(1, (epochs or len(steps)) + 1))


def test_a_killed_trial_goes_on_from_its_checkpoint_by_itself(tmp_path: Path) -> None:
    words = ["--holdouts", "3", "--seeds", "1", "--methods", "classification", "--storage", str(tmp_path)]
    words += ["--set", "epochs=40", "ap_window=1", "checkpoint_seconds=0"]
    process = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        limit = time.monotonic() + PATIENCE
        while newest_epoch(tmp_path) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.02)
        os.kill(only_trial(process), signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 0, err
    assert re.search(r"its process \d+ died on .*killed from outside", err), err
    (cell,) = cells(only_sweep(tmp_path)).values()
    attempt = json.loads((cell / "result.json").read_text())["attempt"]
    assert attempt["number"] == 2
    assert attempt["resumed_after_epoch"] >= 2


def newest_epoch(storage: Path) -> int:
    """The latest epoch of which any cell has a checkpoint."""
    found = storage.glob("*/cells/*/checkpoint/*.pt")
    return max((int(path.name.split("-")[0]) for path in found), default=0)


def only_trial(driver: subprocess.Popen) -> int:
    """The process in which Tune runs the one trial of a driver."""
    (found,) = (
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and parent_is(folder, driver.pid)
        and title(folder).startswith("ray::")
        and "ImplicitFunc" in title(folder)  # what Tune calls a function's process
    )
    return found


def title(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def parent_is(folder: Path, ancestor: int) -> bool:
    """Whether a process descends from another."""
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return False
    return parent == ancestor or (parent > 1 and parent_is(Path("/proc") / str(parent), ancestor))


def test_a_cell_that_always_fails_is_named_and_tried_again_on_resume(
    digits: Prepared, tmp_path: Path
) -> None:
    words = ["--holdouts", "3", "8", "--seeds", "1", "--methods", "classification", "--storage", tmp_path]
    words += ["--set", "epochs=2", "retries=1", "--name", "trouble", "--executor", "inline"]
    request = Request(
        methods=("classification",), holdouts=("3", "8"), seeds=1, assignments=("epochs=2", "retries=1")
    )
    asked = lay_out(draft(request).complete("cpu", digits.classes), digits.fingerprint).all()
    sweep = tmp_path / "trouble"
    broken = sweep / "cells" / next(cell.key for cell in asked if cell.holdout == "8")
    broken.parent.mkdir(parents=True)
    broken.write_text("a file where a folder must be")
    failed = run(*words)
    assert failed.returncode == 1
    assert "classification/8/s0" in failed.stdout
    assert "-m orchestrator.sweep --resume --name trouble" in failed.stdout
    broken.unlink()
    mended = run("--resume", "--name", "trouble", "--storage", tmp_path, "--executor", "inline")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert len(cells(sweep)) == 2

"""What seeds do to sweeps: always the same, and in the end nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import checks
from tests.faults.harness import NAME
from tests.faults.schedules import (
    DAMAGED,
    GCS,
    LIKELY,
    RAYLET,
    TRAIN_WORKER,
    TRIAL,
    WORKER,
    ray_schedule,
    schedule,
)
from tests.sweeps import ROOT

MANY = range(200)
INLINE = "0,1,13,14,20,23,24,25,45,74"
ON_RAY, ON_RAY_SLOWLY = "1", "0"


def test_a_seed_does_the_same_again_and_the_seeds_do_everything() -> None:
    assert [schedule(seed) for seed in MANY] == [schedule(seed) for seed in MANY]
    assert len({str(schedule(seed)) for seed in MANY}) > 0.9 * len(MANY)
    rounds = [each for seed in MANY for each in schedule(seed).rounds]
    assert {fault.what for each in rounds for fault in each.faults} == set(LIKELY)
    assert {damage.kind for each in rounds for damage in each.damages} == set(DAMAGED)
    assert {each.drivers for each in rounds} == {1, 2}
    assert len({schedule(seed).variant for seed in MANY}) == 8
    on_ray = [fault for seed in range(30) for each in ray_schedule(seed).rounds for fault in each.on_ray]
    assert {fault.target for fault in on_ray} >= {TRIAL, TRAIN_WORKER, WORKER, RAYLET, GCS}


def disturb(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Runs the command in a folder, whose undisturbed sweep stays there."""
    command = [sys.executable, "-m", "tests.faults", "--folder", str(folder), *words]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("faults")
    return folder, disturb(folder, "--seeds", INLINE)


def test_ten_disturbed_sweeps_end_as_the_undisturbed_one(
    ten: tuple[Path, subprocess.CompletedProcess],
) -> None:
    _, done = ten
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    assert len(lines) == 10
    assert sum("nothing struck" in line for line in lines) <= 3, done.stdout
    assert "10 of 10 schedules ended as the undisturbed sweep" in done.stdout


@pytest.mark.slow
def test_a_disturbed_sweep_on_ray_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    done = disturb(tmp_path, "--ray", "--seeds", ON_RAY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing struck" not in done.stdout


@pytest.mark.slow
def test_a_sweep_on_ray_that_is_killed_and_stopped_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    done = disturb(tmp_path, "--ray", "--seeds", ON_RAY_SLOWLY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing struck" not in done.stdout


# A comparison that cannot fail would show nothing


@pytest.fixture
def copies(ten: tuple[Path, subprocess.CompletedProcess], tmp_path: Path) -> tuple[Path, Path]:
    """The undisturbed sweep's storage, and a copy of it to spoil."""
    storage = ten[0] / "undisturbed-plain" / "storage"
    shutil.copytree(storage, tmp_path / "storage")
    return storage, tmp_path / "storage"


def compare(storage: Path, spoilt: Path) -> Iterator[str]:
    yield from checks.differences(storage / NAME, spoilt / NAME)
    yield from checks.tracked_differently(storage, spoilt, damaged=False)
    yield from checks.left_behind(spoilt, spoilt / NAME, spoilt / "tmp", damaged=False)
    yield from checks.attempts_left_open(spoilt / NAME, damaged=False)


def a_cell(storage: Path, file: str = "result.json") -> Path:
    return min(storage.glob(f"{NAME}/cells/*/{file}"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def execute(storage: Path, statement: str) -> None:
    with sqlite3.connect(storage / "mlflow.db") as connection:
        connection.execute(statement)


SPOILS = {
    "lost": lambda s: a_cell(s).unlink(),
    "another result": lambda s: edit(a_cell(s), aux_weights={"rotation": 7.0}),
    "a folder of no cell": lambda s: (s / NAME / "cells" / "stray").mkdir(),
    "another report/table.csv": lambda s: (s / NAME / "report/table.csv").write_text("nothing\n"),
    "another report/cells.csv": lambda s: (s / NAME / "report/cells.csv").unlink(),
    "left behind: digits/cells": lambda s: (a_cell(s).parent / "x.part").touch(),
    "left behind: cells": lambda s: (a_cell(s).parent / "checkpoint").mkdir(),
    "a folder damaged/": lambda s: (s / NAME / "damaged").mkdir(),
    "left behind: TMPDIR/sweep-1": lambda s: (s / "tmp" / "sweep-1").mkdir(parents=True),
    "the record of an attempt": lambda s: edit(a_cell(s, "attempts/1.json"), ending="running"),
    "2 MLflow runs": lambda s: execute(
        s,
        "insert into runs (run_uuid, name, status, lifecycle_stage, experiment_id) "
        "select 'twin', name, 'RUNNING', 'active', experiment_id from runs where name = 'digits'",
    ),
    "MLflow's status": lambda s: execute(s, "update runs set status = 'RUNNING' where name = 'digits'"),
    "MLflow's points": lambda s: execute(s, "update metrics set value = value + 1e-9"),
    "MLflow's doubled": lambda s: execute(
        s,
        "insert into metrics select key, value, timestamp + 1, run_uuid, step, is_nan from metrics",
    ),
    "MLflow run missing": lambda s: execute(s, "update runs set lifecycle_stage = 'deleted'"),
}


@pytest.mark.parametrize("found", SPOILS)
def test_what_differs_is_found(copies: tuple[Path, Path], found: str) -> None:
    storage, spoilt = copies
    assert list(compare(storage, spoilt)) == []
    SPOILS[found](spoilt)
    assert [sentence for sentence in compare(storage, spoilt) if found in sentence]

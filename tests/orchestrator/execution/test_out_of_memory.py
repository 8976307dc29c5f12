"""Cells that run out of memory on a real Ray, and one that only looks like it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.sweeps import PLAIN, ROOT, cells, command, comparable, only_sweep

DETECTOR = """
import os, signal
import torch
from trainables.detectors import Detector


class Greedy(Detector):
    name = "greedy"
    needs = "features"

    def fit(self, features, logits, labels):
        with open(os.environ["TRIES"], "a") as tries:
            tries.write(os.environ.get("OMP_NUM_THREADS", "") + " ")
            first = tries.tell() < 3
        if first or os.environ.get("ALWAYS"):
            {how}

    def score(self, features, logits):
        return -features.norm(dim=1)
"""

HOST = "raise MemoryError('no room')"
GPU = "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')"
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
HOARDING = """
            hoard = []
            while True:
                hoard.append(torch.ones(2**24))
"""


def sweep(
    folder: Path, how: str, *words: str, **settings: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """A sweep of one cell with a detector that fails at its first try; and the threads of each try."""
    plugin, tries = folder / "greedy.py", folder / "tries"
    plugin.write_text(DETECTOR.replace("{how}", how))
    line = ["--holdouts", "3", "--seeds", "1", "--methods", "classification", "--detectors", "msp", "greedy"]
    line += ["--plugin", str(plugin), "--storage", str(folder / "runs"), *words]
    line += ["--set", "epochs=2", "ap_window=1", "checkpoint_seconds=0"]
    environment = {**os.environ, **PLAIN, "TRIES": str(tries), **settings}
    done = subprocess.run(command(*line), cwd=ROOT, capture_output=True, text=True, env=environment)
    return done, tries.read_text()


def attempts(folder: Path) -> list[dict]:
    (cell,) = cells(only_sweep(folder / "runs")).values()
    return [json.loads(path.read_text()) for path in sorted((cell / "attempts").glob("*.json"))]


@pytest.mark.slow
def test_the_next_try_has_the_machine_to_itself_and_the_same_numbers(tmp_path: Path) -> None:
    for name, how in (("undisturbed", "pass"), ("disturbed", HOST)):
        (tmp_path / name).mkdir()
        done, threads = sweep(tmp_path / name, how)
        assert done.returncode == 0, done.stderr
    assert "memory ran out: MemoryError: no room" in done.stderr
    assert "it is tried again, alone on its machine." in done.stderr
    assert threads.split() == ["1", "1"]
    first, second = attempts(tmp_path / "disturbed")
    assert first["cpus"] == 1
    assert second["cpus"] == os.cpu_count()
    one, other = (cells(only_sweep(tmp_path / name / "runs")) for name in ("undisturbed", "disturbed"))
    left, right = comparable(*one.values()), comparable(*other.values())
    assert left[1:] == right[1:]
    assert left[0]["values"] == right[0]["values"]


@pytest.mark.slow
def test_what_does_not_fit_alone_is_given_up_with_what_would_make_it_fit(tmp_path: Path) -> None:
    done, tries = sweep(tmp_path, GPU, ALWAYS="1")
    assert done.returncode == 1, done.stderr
    assert len(tries.split()) == 2
    assert "GPU memory ran out: OutOfMemoryError: CUDA out of memory" in done.stderr
    assert "GPU memory ran out though it ran alone; what would make it fit: " in done.stderr
    assert "--set micro_batch=32" in done.stdout


@pytest.mark.slow
def test_a_process_that_is_killed_has_not_run_out_of_memory(tmp_path: Path) -> None:
    done, tries = sweep(tmp_path, KILLED)
    assert done.returncode == 0, done.stderr
    assert len(tries.split()) == 2
    assert "died" in done.stderr
    assert "memory ran out:" not in done.stderr


@pytest.mark.slow
def test_ray_s_memory_monitor_is_understood(tmp_path: Path) -> None:
    """It ends what takes 2 GiB more than the machine uses now."""
    psutil = pytest.importorskip("psutil")
    now = psutil.virtual_memory()
    if now.available < 5 * 2**30:
        pytest.skip("needs 5 GiB of free memory")
    threshold = (now.total - now.available + 2 * 2**30) / now.total
    settings = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    done, _ = sweep(tmp_path, HOARDING, **settings)
    assert "memory ran out: its process" in done.stderr, done.stderr
    assert "alone on its machine" in done.stderr


def test_inline_it_fails_with_what_would_make_it_fit(tmp_path: Path) -> None:
    done, tries = sweep(tmp_path, GPU, "--executor", "inline")
    assert done.returncode == 1, done.stderr
    assert len(tries.split()) <= 1
    assert "CUDA out of memory" in done.stdout
    assert "what would make it fit: another sweep with --set micro_batch=32" in done.stdout

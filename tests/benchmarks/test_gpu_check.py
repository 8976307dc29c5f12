"""The check of a GPU runs anywhere, on tiny networks, and keeps to its time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import CASES, PARTS, Case, Check, flops_of, measure_case, measure_resuming, table
from tests.sweeps import ROOT


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("case", [CASES[0], CASES[5]], ids=lambda case: case.name)
def test_a_network_is_measured(case: Case) -> None:
    found = measure_case(case, "cpu", 0.0)
    assert found["steps"] == 2
    assert found["images per second"] > 0
    flops = found["images per second"] * flops_of(case, case.recipe("cpu"))
    assert found["TFLOP per second"] == pytest.approx(flops / 1e12)
    text = table(
        {"rate": {"TFLOP per second": 1.0}, "networks": {case.name: found, "other": {"error": "no"}}}
    )
    assert [line.split("  ")[0] for line in text.splitlines()] == ["network", case.name, "other"]


def test_the_networks_are_the_paper_s() -> None:
    recipes = {case.name: case.recipe("cuda") for case in CASES}
    assert {recipe.precision for recipe in recipes.values()} == {"bfloat16"}
    names = {name.split(",")[0]: recipe.network_name for name, recipe in recipes.items()}
    assert (names["WRN-28-10"], names["WRN-16-4"], names["STL-10"]) == ("WRN-28-10", "WRN-16-4", "WRN-36-4")
    sizes = [(r.batch_size, r.micro_batch) for r in recipes.values()]
    assert sizes[:5] == [(512, 128), (512, 0), (128, 0), (256, 64), (64, 0)]
    assert recipes["ImageNet, 64, and CPC, 32"].stem_stride == 2


def test_a_resumed_training_is_compared_with_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_resuming("cpu")
    assert found["equal"]
    assert found["difference without an interruption"] == 0 < found["norm of the change"]
    load = gpu_check.Training.load
    monkeypatch.setattr(gpu_check.Training, "load", lambda self, state: load(self, {**state, "epoch": 0}))
    assert not measure_resuming("cpu")["equal"], "it trains an epoch with the draws of another"


def test_parts_without_time_are_not_begun() -> None:
    check = Check("cpu", budget=0.0)
    check.run(list(PARTS))
    out = {"error": "out of time"}
    assert all(check.found[name] == out for name in ("tests", "rate", "resuming", "nested"))
    assert check.found["networks"] == {case.name: out for case in CASES}
    assert check.found["sharing"] == {"1": out, "2": out, "4": out}


def test_a_part_that_takes_too_long_is_ended_with_what_it_started() -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    started = int(process.stdout.readline())
    assert gpu_check._heard(process, 0.1) == {"error": "out of time after 0 s"}
    over = time.monotonic() + 60
    while _runs(started) and time.monotonic() < over:
        time.sleep(0.01)
    assert not _runs(started)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_part_that_fails_says_why() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "print(1); raise ValueError('no such thing')"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert gpu_check._heard(process, 60) == {"error": "ValueError: no such thing"}


@pytest.mark.slow
def test_all_parts_but_ray_s_run_without_ray_and_mlflow(tmp_path: Path) -> None:
    for name in ("ray", "mlflow", "optuna"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not here')")
    line = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--budget", "1200"]
    environment = {**gpu_check._environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    output = tmp_path / "found.json"
    done = subprocess.run(
        [*line, "--output", str(output)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["tests"]["passed"]
    assert found["rate"]["TFLOP per second"] > 0
    assert all(each["images per second"] > 0 for each in found["networks"].values())
    assert found["resuming"]["equal"]
    assert all(each["images per second"] > 0 for each in found["sharing"].values())
    assert found["nested"] == {"error": "ImportError: ray is not here"}

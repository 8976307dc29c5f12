"""The request that asks for a sweep again: it gives the same specification."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.next_commands import sweep_command
from orchestrator.cli.sweep_options import read_request
from orchestrator.planning.repeat import repeating_request
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import read_stored
from search_spaces import find_benchmark
from tests.hand_made_ledger import write_sweep

CLASSES = tuple("0123456789")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"holdouts": ("3", "8"), "seeds": 2, "lambda_trials": 3, "assignments": ("epochs=4", "ap_window=2")},
        {"holdouts": ("none",), "aux_weight": ("0.3",)},
        {"assignments": ("batch_size=32", "sweep_seed=7", "lambda.rotation=0.1,0.30000000000000004")},
        {"search": ("learning_rate=0.01..0.3", "dropout=0,0.3"), "search_seeds": 2, "methods": ("rotation",)},
        {"select": "benchmark", "halving": 3, "cpus_per_worker": 2.0, "assignments": ("learning_rate=0.07",)},
        {"benchmark": "cifar10", "protocol": "paper", "assignments": ("fidelity=reference", "epochs=20")},
        {"benchmark": "cifar10", "workers": 2, "assignments": ("precision=float32",)},
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_its_command_gives_the_same_specification(tmp_path: Path, asked: dict[str, Any], device: str) -> None:
    classes = find_benchmark(asked.get("benchmark", "digits")).classes or CLASSES
    wanted = draft(Request(**asked)).complete(device, classes)
    ledger, _ = write_sweep(tmp_path, wanted, classes=classes)
    request = repeating_request(read_stored(ledger), "runs")
    assert request is not None
    words = sweep_command(request).split()
    assert words[1:3] == ["-m", "orchestrator.sweep"]
    again = draft(read_request(words[3:])).complete(device, classes)
    assert again == wanted


def test_what_no_command_asks_for_has_none(tmp_path: Path) -> None:
    wanted = draft(Request()).complete("cpu", CLASSES)
    old = dataclasses.replace(wanted, starts="random")
    ledger, _ = write_sweep(tmp_path, old)
    assert repeating_request(read_stored(ledger), "runs") is None

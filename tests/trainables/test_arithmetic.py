"""Switches of the whole process are set for a while only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch

from trainables import train
from trainables.arithmetic import quickest_convolutions
from trainables.cell import CellRun
from trainables.data.prepared import Prepared


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_convolutions_are_timed_on_gpus_alone_and_as_long_as_asked(
    monkeypatch: pytest.MonkeyPatch, before: bool, kind: str
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with contextlib.suppress(KeyError), quickest_convolutions(torch.device(kind)):
        assert torch.backends.cudnn.benchmark == (before or kind == "cuda")
        raise KeyError
    assert torch.backends.cudnn.benchmark == before


def test_training_times_convolutions_and_scoring_does_not(
    monkeypatch: pytest.MonkeyPatch, digits: Prepared, quick_run: Callable
) -> None:
    gpu, seen = torch.device("cuda"), set()
    monkeypatch.setattr(train, "quickest_convolutions", lambda device: quickest_convolutions(gpu))
    cell = CellRun(quick_run(epochs=1, train_fraction=0.1), digits)
    network = cell.training.network
    network.stem.register_forward_hook(
        lambda module, *_: seen.add((module.training, torch.backends.cudnn.benchmark))
    )
    for _ in cell.epochs():
        pass
    assert seen == {(True, True), (False, False)}

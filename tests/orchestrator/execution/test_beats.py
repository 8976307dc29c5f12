"""A process's account of its beats."""

from __future__ import annotations

import pytest

from orchestrator.execution import beats as module
from orchestrator.execution.beats import Beats
from orchestrator.execution.watchdog import Process


def test_signs_have_the_epoch_the_phase_and_the_speed_of_the_last_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    beats = Beats(Process("first"))
    assert (beats.sign().phase, beats.sign().epoch) == ("starting", 0)
    for second in range(1, 31):
        now = 100.0 + second
        for _ in range(2):
            beats.beat("training", 1 + second // 10, 64 if second > 15 else 8)
        sign = beats.sign()
    assert (sign.beats, sign.phase, sign.epoch, sign.images_per_second) == (60, "training", 4, 128.0)
    beats.beat("scoring by odin")
    assert (beats.sign().phase, beats.sign().epoch) == ("scoring by odin", 4)
    beats.begin(Process("second"))
    sign = beats.sign()
    assert (sign.process.trial, sign.phase, sign.epoch, sign.images_per_second) == (
        "second",
        "starting",
        0,
        0.0,
    )
    assert sign.beats == 61

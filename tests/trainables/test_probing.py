"""What is measured of runs, and that it leaves them as they are for others."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from trainables import probing
from trainables.cell import CellRun
from trainables.data.prepared import Prepared
from trainables.heartbeat import beat
from trainables.probing import _Clock, measure

CPU = torch.device("cpu")


@pytest.mark.parametrize(("method", "search"), [("rotation", True), ("classification", False)])
def test_steps_and_evaluations_are_measured_in_about_the_time_there_is(
    digits: Prepared, quick_run: Callable, method: str, search: bool
) -> None:
    began = time.perf_counter()
    pace, running = measure(quick_run(method, search=search), digits, 0.6, ("msp", "odin"))
    took = time.perf_counter() - began
    assert took >= 0.6
    assert pace.steps >= 2
    assert pace.evaluated_images >= 100
    measured = pace.steps * pace.step + pace.evaluated_images * pace.evaluated_image
    assert measured < 1.2 * took
    assert all(0 <= value < took for value in (pace.begin, pace.step, pace.epoch, pace.end))
    assert isinstance(running, CellRun)
    assert running.scores is None or not search
    assert 0 < pace.share <= 1


def test_a_rotated_step_takes_longer(digits: Prepared, quick_run: Callable) -> None:
    plain, rotated = (
        measure(quick_run(method), digits, 0.5, ())[0] for method in ("classification", "rotation")
    )
    assert rotated.step > 1.1 * plain.step


def test_a_step_that_takes_longer_than_the_time_is_measured_all_the_same(
    digits: Prepared, quick_run: Callable
) -> None:
    pace, _ = measure(quick_run(), digits, 0.0, ("msp",))
    assert pace.steps == probing.FEWEST - 1, "the first one of an epoch has more to do than others"
    assert pace.step > 0 < pace.evaluated_image


def test_recalibration_and_detectors_on_features_are_part_of_evaluations(
    digits: Prepared, quick_run: Callable
) -> None:
    plain, _ = measure(quick_run(), digits, 0.4, ("msp",))
    recalibrated, _ = measure(quick_run(batch_norm_statistics="recalibrated"), digits, 0.4, ("msp",))
    fitted, _ = measure(quick_run(), digits, 0.4, ("msp", "mahalanobis"))
    assert recalibrated.evaluated_image > plain.evaluated_image
    assert fitted.end > plain.end


def test_what_trains_nothing_is_run_once(digits: Prepared, quick_run: Callable) -> None:
    pace, running = measure(quick_run("pixel-gaussian"), digits, 0.1, ())
    assert running.scores is not None
    assert pace.begin > 0 == pace.step


def test_a_clock_ends_work_at_a_beat_of_its_phase_and_not_before_the_fewest() -> None:
    clock, done = _Clock("training", CPU, 0.0, fewest=2), []

    def work() -> None:
        for phase in ("training", "other", "training", "training"):
            done.append(phase)
            beat(phase)

    assert clock.run(work) is None
    assert done == ["training", "other", "training"]
    patient = _Clock("training", CPU, 60.0, fewest=1)
    assert patient.run(work) is not None
    assert len(patient.beats) == 3

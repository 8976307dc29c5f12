"""What attempts took, and what of it was lost, by the records that they left."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.ledger.attempts import Usage
from orchestrator.ledger.spending import HOUR, NOTHING, Spending, cost_metrics, spending


def record(number: int, started: float, ended: float | None, ending: str, **changes: Any) -> dict[str, Any]:
    """An attempt of one GPU and four CPUs."""
    epochs = {"resumed_after_epoch": 0, "epoch": 0}
    return {
        **{"attempt": number, "started": started, "ended": ended, "ending": ending},
        **{"gpus": 1.0, "cpus": 4.0, **epochs, **changes},
    }


def result(number: int, finished_at: float, seconds: float = 7.0) -> dict[str, Any]:
    return {"attempt": {"number": number, "finished_at": finished_at, "seconds": seconds}}


def curves(*finished_at: float) -> list[dict[str, float]]:
    return [{"epoch": place + 1, "speed/finished_at": at} for place, at in enumerate(finished_at)]


def none_to_read() -> list[dict[str, float]]:
    raise AssertionError("the curves tell nothing that is needed")


def test_an_attempt_that_ended_well_lost_nothing() -> None:
    spent = spending([record(1, 100, 160, "done")], result(1, 159), 1, NOTHING, none_to_read)
    assert spent == Spending(1, gpu_seconds=60, cpu_seconds=240)


def test_what_no_later_attempt_went_on_from_is_lost() -> None:
    first = record(1, 100, 200, "failed", epoch=2)
    second = record(2, 300, 400, "done", resumed_after_epoch=2, epoch=5)
    spent = spending([first, second], result(2, 399), 2, NOTHING, lambda: curves(130, 160, 320, 340, 390))
    assert (spent.gpu_seconds, spent.lost_gpu_seconds) == (200, 40)  # epoch 2 was done after 60 of the 100 s
    assert spent.lost_cpu_seconds == 4 * 40
    assert spent.attempts == 2


def test_all_of_an_attempt_that_left_no_epoch_is_lost() -> None:
    first = record(1, 100, 200, "lost")
    second = record(2, 300, 330, "done")
    spent = spending([first, second], result(2, 330), 2, NOTHING, lambda: curves(330))
    assert spent.lost_gpu_seconds == 100


def test_a_checkpoint_that_the_next_attempt_could_not_read_keeps_nothing() -> None:
    first = record(1, 100, 200, "failed", epoch=2)
    second = record(2, 300, 400, "done", resumed_after_epoch=0, epoch=2)
    spent = spending([first, second], result(2, 400), 2, NOTHING, lambda: curves(350, 400))
    assert spent.lost_gpu_seconds == 100


def test_an_attempt_under_way_counts_to_its_last_epoch_and_has_lost_nothing() -> None:
    spent = spending([record(1, 100, None, "running")], None, 1, NOTHING, lambda: curves(130, 160))
    assert (spent.gpu_seconds, spent.lost_gpu_seconds) == (60, 0)


def test_the_result_ends_an_attempt_that_died_before_it_could_say_so() -> None:
    spent = spending([record(1, 100, None, "running")], result(1, 150), 1, NOTHING, none_to_read)
    assert (spent.gpu_seconds, spent.lost_gpu_seconds) == (50, 0)


def test_a_result_that_was_thrown_away_is_lost() -> None:
    first, second = record(1, 100, 200, "done", epoch=2), record(2, 300, 350, "done")
    spent = spending([first, second], result(2, 350), 2, NOTHING, lambda: curves(340, 350))
    assert spent.lost_gpu_seconds == 100


def test_attempts_of_version_0_1_count_what_the_result_says() -> None:
    spent = spending([], result(3, 150, seconds=20), 3, Usage(cpus=8.0, gpus=2.0), none_to_read)
    assert spent == Spending(3, gpu_seconds=40, cpu_seconds=160, unrecorded=3)
    assert cost_metrics(spent) == {}


def test_a_sum_and_its_metrics() -> None:
    both = Spending(1, HOUR, 4 * HOUR) + Spending(2, HOUR / 2, HOUR, lost_gpu_seconds=HOUR / 2)
    assert cost_metrics(both) == {"cost/gpu_hours": 1.5, "cost/cpu_hours": 5.0, "cost/attempts": 3.0}
    assert (both.hours, both.lost_hours) == (1.5, 0.5)
    assert Spending(1, 0.0, 2 * HOUR).hours == pytest.approx(2)

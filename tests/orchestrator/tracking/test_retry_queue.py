"""Jobs for a server that may be away: their order, their retries, and closing the queue."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.tracking import retry_queue
from orchestrator.tracking.retry_queue import RetryQueue


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_queue, "RETRY_SECONDS", 0.01)


def retryable(error: Exception) -> bool:
    return not isinstance(error, ValueError)


def test_jobs_are_run_in_order_each_until_it_succeeds() -> None:
    run: list[str] = []
    trouble = [ConnectionError("away")] * 3

    def stubborn() -> None:
        if trouble:
            raise trouble.pop()
        run.append("stubborn")

    jobs = RetryQueue(retryable)
    jobs.put(stubborn)
    jobs.put(lambda: run.append("next"))
    assert not jobs.away
    jobs.start()
    assert jobs.close(timeout=60)
    assert run == ["stubborn", "next"]
    assert not jobs.away
    assert jobs.refusals == []


def test_a_job_that_is_not_retryable_is_left_out_and_reported() -> None:
    def refused() -> None:
        raise ValueError("changed params are refused.\nand a long explanation")

    run: list[str] = []
    jobs = RetryQueue(retryable)
    jobs.start()
    jobs.put(refused)
    jobs.put(lambda: run.append("next"))
    assert jobs.close(timeout=60)
    assert run == ["next"]
    assert jobs.refusals == ["changed params are refused"]


def test_a_server_that_stays_away_is_waited_for_at_the_end_for_the_grace_period_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> None:
        raise ConnectionError

    monkeypatch.setattr(retry_queue, "GRACE_SECONDS", 0.2)
    jobs = RetryQueue(retryable)
    jobs.start()
    jobs.put(away)
    began = time.monotonic()
    assert not jobs.close(timeout=600)
    assert jobs.away
    assert time.monotonic() - began < 60


def test_a_slow_server_is_waited_for_until_the_timeout() -> None:
    answered = threading.Event()
    jobs = RetryQueue(retryable)
    jobs.start()
    jobs.put(answered.wait)
    threading.Timer(0.3, answered.set).start()
    assert jobs.close(timeout=60)

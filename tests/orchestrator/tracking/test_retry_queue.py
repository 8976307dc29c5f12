"""Errands to a server that may be away: order, patience, and an end that comes."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.tracking import retry_queue
from orchestrator.tracking.retry_queue import Outbox, first_line


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_queue, "RETRY_SECONDS", 0.01)


def hopeless(error: Exception) -> bool:
    return isinstance(error, ValueError)


def test_errands_are_run_in_order_each_until_it_succeeds() -> None:
    run: list[str] = []
    trouble = [ConnectionError("away")] * 3

    def stubborn() -> None:
        if trouble:
            raise trouble.pop()
        run.append("stubborn")

    box = Outbox(hopeless)
    box.put(stubborn)
    box.put(lambda: run.append("next"))
    assert not box.away
    box.start()
    assert box.close(timeout=60)
    assert run == ["stubborn", "next"]
    assert not box.away
    assert box.refusals == []


def test_what_is_hopeless_is_left_out_and_said() -> None:
    def refused() -> None:
        raise ValueError("changed params are refused.\nand a long explanation")

    run: list[str] = []
    box = Outbox(hopeless)
    box.start()
    box.put(refused)
    box.put(lambda: run.append("next"))
    assert box.close(timeout=60)
    assert run == ["next"]
    assert box.refusals == ["changed params are refused"]


def test_a_server_that_stays_away_holds_up_the_end_for_the_grace_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> None:
        raise ConnectionError

    monkeypatch.setattr(retry_queue, "GRACE_SECONDS", 0.2)
    box = Outbox(hopeless)
    box.start()
    box.put(away)
    began = time.monotonic()
    assert not box.close(timeout=600)
    assert box.away
    assert time.monotonic() - began < 60


def test_a_server_that_is_slow_has_the_whole_time() -> None:
    answered = threading.Event()
    box = Outbox(hopeless)
    box.start()
    box.put(answered.wait)
    threading.Timer(0.3, answered.set).start()
    assert box.close(timeout=60)


def test_an_error_without_words_is_named_by_its_type() -> None:
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert first_line(OSError("no route.\nmore")) == "no route"

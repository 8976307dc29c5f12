"""Signs of life: who hears them."""

from __future__ import annotations

import time

from trainables.heartbeat import beat, listening


def test_the_listener_that_came_last_hears_until_it_leaves() -> None:
    first: list[str] = []
    second: list[str] = []
    beat("nobody hears")
    with listening(first.append):
        beat("one")
        with listening(second.append):
            beat("two")
        beat("three")
    beat("nobody hears")
    assert (first, second) == (["one", "three"], ["two"])


def test_without_a_listener_a_beat_costs_next_to_nothing() -> None:
    started = time.process_time()
    for _ in range(100_000):
        beat("training")
    assert (time.process_time() - started) / 100_000 < 5e-6  # a step takes a millisecond at least

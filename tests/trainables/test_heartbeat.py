"""Signs of life: who hears them."""

from __future__ import annotations

import time

from trainables.heartbeat import beat, listening


def test_the_listener_that_came_last_hears_until_it_leaves() -> None:
    first: list[tuple[str, int, int]] = []
    second: list[tuple[str, int, int]] = []
    beat("nobody hears")
    with listening(lambda *heard: first.append(heard)):
        beat("one")
        with listening(lambda *heard: second.append(heard)):
            beat("two", epoch=3, images=128)
        beat("three")
    beat("nobody hears")
    assert (first, second) == ([("one", 0, 0), ("three", 0, 0)], [("two", 3, 128)])


def test_without_a_listener_a_beat_costs_next_to_nothing() -> None:
    started = time.process_time()
    for _ in range(100_000):
        beat("training")
    assert (time.process_time() - started) / 100_000 < 5e-6  # a step takes a millisecond at least

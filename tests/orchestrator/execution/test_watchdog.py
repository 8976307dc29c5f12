"""The rule by which cells are found to stand still; time passes as the tests say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.execution.watchdog import REPORTING, Process, Sign, Watchdog

GROUP = tuple(Process("t", rank, pid=10 + rank, host=f"node{rank}") for rank in (0, 1))
ALONE = Process("t", None, pid=5, host="node0")


def watchdog(limit: float = 5, trial: str = "t") -> Watchdog:
    made = Watchdog(limit)
    made.began(trial, "key", "rotation/3/s0")
    return made


def test_a_cell_without_a_new_beat_stands_still_and_is_found_once() -> None:
    dog = watchdog()
    for second in range(20):
        dog.heard(Sign(ALONE, second, "training"))
        dog.pass_time(1)
        assert dog.stalled() == []
    for _ in range(5):
        dog.heard(Sign(ALONE, 19, "training"))  # its thread speaks, its work does not advance
        assert dog.stalled() == []
        dog.pass_time(1)
    (stall,) = dog.stalled()
    assert str(stall) == "no progress in training for 6 s, on node0"
    assert stall.processes == (ALONE,)
    assert dog.stalled() == []
    assert dog.ended("t") is stall
    assert dog.ended("t") is None


def test_zero_turns_it_off() -> None:
    dog = watchdog(0)
    dog.heard(Sign(ALONE, 1, "training"))
    dog.pass_time(1e9)
    assert dog.stalled() == []


def test_without_a_limit_of_the_person_s_each_cell_s_pace_decides() -> None:
    dog = watchdog(-1)
    assert dog.limit("key") == 600
    for beats, gap in enumerate((1, 40, 3)):
        dog.heard(Sign(ALONE, beats, "training"))
        dog.pass_time(gap)
    assert dog.limit("key") == 800  # 20 times the slowest gap that ended
    assert dog.limit("another") == 600
    dog.ended("t")
    dog.began("again", "key", "rotation/3/s0")
    assert dog.limit("key") == 800  # also for the next attempt


def test_who_gives_no_sign_is_blamed_before_those_who_wait_for_it() -> None:
    dog = watchdog(20)
    for process in GROUP:
        dog.heard(Sign(process, 100, "training"))
    for _ in range(21):
        dog.pass_time(1)
        dog.heard(Sign(GROUP[0], 101, "training"))  # one step more, in which it waits for the other
    dog.pass_time(1)
    (stall,) = dog.stalled()
    assert str(stall) == "no progress in training for 21 s, worker 1 on node1, which gives no sign of life"
    assert set(stall.processes) == set(GROUP)


def test_a_group_advances_if_any_of_its_workers_does() -> None:
    dog = watchdog()
    dog.heard(Sign(GROUP[1], 1, "scoring"))
    for second in range(60):
        dog.heard(Sign(GROUP[0], second, "scoring"))
        dog.pass_time(1)
    assert dog.stalled() == []


def test_waiting_for_resources_is_no_standing_still_and_starting_for_ever_is() -> None:
    dog = watchdog()
    dog.heard(Sign(replace(ALONE, guards=True), 1, "starting"))
    dog.pass_time(1000, waiting=True)
    assert dog.stalled() == []
    assert dog.not_started == 1
    dog.pass_time(170)  # its workers start
    assert dog.stalled() == []
    dog.pass_time(11)
    (stall,) = dog.stalled()
    assert str(stall) == "no progress in starting for 3 min, on node0"


def test_a_cell_that_waits_for_resources_excuses_none_that_has_started() -> None:
    dog = watchdog()
    dog.heard(Sign(ALONE, 1, "training"))
    dog.began("u", "other", "rotation/8/s0")
    dog.pass_time(6, waiting=True)
    assert [stall.trial for stall in dog.stalled()] == ["t"]


def test_a_cell_that_reports_waits_for_the_driver_unless_it_gives_no_sign_at_all() -> None:
    dog = watchdog()
    for _ in range(100):
        dog.heard(Sign(ALONE, 7, REPORTING))
        dog.pass_time(3)
        assert dog.stalled() == []
    dog.pass_time(15)
    assert len(dog.stalled()) == 1


def test_signs_of_trials_that_ended_are_nobody_s() -> None:
    dog = watchdog()
    dog.ended("t")
    dog.heard(Sign(ALONE, 7, "training"))
    dog.pass_time(100)
    assert dog.stalled() == []
    assert dog.not_started == 0


def test_a_sweep_in_which_nothing_advances_says_what_it_waits_for_every_few_minutes() -> None:
    dog = watchdog(-1)
    dog.began("u", "other", "rotation/8/s0")
    dog.heard(Sign(ALONE, 1, "scoring"))
    said = []
    for _ in range(400):
        dog.pass_time(1)
        dog.heard(Sign(ALONE, 1, "scoring"))
        said.append(dog.quiet())
    lines = [line for line in said if line]
    assert lines == [
        f"Nothing has advanced for {minutes} min: rotation/3/s0 shows no progress in scoring for "
        f"{minutes} min, on node0, and 1 other cell as well; it is ended after 10 min."
        for minutes in (3, 6)
    ]
    dog.heard(Sign(ALONE, 2, "scoring"))
    dog.pass_time(100)
    assert dog.quiet() is None


def test_the_line_names_a_cell_that_has_not_been_heard_of() -> None:
    dog = watchdog()
    dog.pass_time(200)
    assert dog.stalled() == []  # there is nothing to end
    assert dog.quiet() == (
        "Nothing has advanced for 3 min: rotation/3/s0 shows no progress in starting for 3 min, not heard "
        "of yet."
    )


@pytest.mark.parametrize("limit", [-1, 0, 5])
def test_nothing_is_said_while_cells_wait_for_resources(limit: float) -> None:
    dog = watchdog(limit)
    dog.pass_time(10_000, waiting=True)
    assert dog.quiet() is None


def test_a_cell_that_was_ended_gets_twice_as_long_at_its_next_try() -> None:
    dog = watchdog(-1)
    dog.heard(Sign(ALONE, 1, "fitting a detector"))
    for _ in range(601):
        dog.pass_time(1)
    assert len(dog.stalled()) == 1
    assert dog.limit("key") == 1202
    assert watchdog(5).limit("key") == 5  # what a person gave stays

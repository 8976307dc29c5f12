"""What the watching thread does with signs of life; the tests say how much time passes."""

from __future__ import annotations

import threading

import pytest

from orchestrator.execution import watching as module
from orchestrator.execution.progress import Progress
from orchestrator.execution.watchdog import Process, Sign, Watchdog
from orchestrator.execution.watching import Waiting, Watch

GUARD, WORKER = Process("t", None, True, 1, host="a"), Process("t", 0, pid=2, host="a")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Stage:
    """A watch over one cell, whose signs, resources and ends the test holds."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.dog = clock, Watchdog(5)
        self.signs: list[Sign] | None = []
        self.waiting = Waiting()
        self.ended: list[list[Process]] = []
        self.dog.began("t", "key", "rotation/3/s0")
        progress = Progress({"key": 1}, set())
        progress.update({"done": 0, "running": 1, "failed": 0})
        self.watch = Watch(
            self.dog, progress, lambda: self.signs, lambda p: self.ended.append(list(p)), lambda: self.waiting
        )

    def look(self, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.clock.now += seconds
            self.watch.look()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return Stage(clock)


def test_a_stalled_group_s_workers_are_ended_and_later_whoever_looks_after_them(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.signs = [Sign(GUARD, 0, ""), Sign(WORKER, 1, "training")]
    stage.look()
    stage.signs = []
    stage.look(5)
    assert stage.ended == []
    stage.look()
    assert stage.ended == [[WORKER]]
    stage.look(30)
    assert "could not be ended" not in capsys.readouterr().err
    stage.look()
    assert stage.ended == [[WORKER], [GUARD, WORKER]]
    assert (
        "rotation/3/s0 shows no progress in training for 6 s, worker 0 on a, which gives no sign of life; it "
        in (capsys.readouterr().err)
    )
    stage.dog.ended("t")
    stage.look(60)
    assert len(stage.ended) == 2


@pytest.mark.parametrize("gap", ["the driver was stopped for an hour", "nobody answered for an hour"])
def test_time_in_which_no_sign_could_come_is_nobody_s_fault(stage: Stage, gap: str) -> None:
    stage.signs = [Sign(WORKER, 1, "training")]
    stage.look()
    stage.signs = []
    if gap.startswith("nobody"):
        stage.signs = None
        stage.look(3600)
        stage.signs = []
    else:
        stage.look(seconds=3600)
    stage.look(3)
    assert stage.ended == []
    stage.look(3)
    assert len(stage.ended) == 1


def test_a_cell_that_waits_is_shown_as_waiting_and_mentioned_after_a_minute(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.waiting = Waiting(1, "CPUs", "2 x 1 CPU", "2 CPUs (1 free)")
    stage.look(60)
    assert "has waited for" not in capsys.readouterr().err
    stage.look(2)
    told = "1 cell has waited for CPUs for 60 s: one needs 2 x 1 CPU, and the cluster has 2 CPUs (1 free)."
    assert told in capsys.readouterr().err
    stage.look(500)
    said = capsys.readouterr().err
    assert "has waited for" not in said
    assert "0/1 cells done, 0 running, 1 waiting for CPUs" in said
    assert stage.ended == []


def test_a_failure_of_ray_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    looked = threading.Semaphore(0)

    def read() -> list[Sign]:
        looked.release()
        raise RuntimeError("no answer")

    with Watch(Watchdog(5), Progress({}, set()), read).running():
        assert all(looked.acquire(timeout=30) for _ in range(3))

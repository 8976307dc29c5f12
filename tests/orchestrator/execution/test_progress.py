"""The display where the output is no terminal: few lines, true counts, a forecast from the work done."""

from __future__ import annotations

import pytest

from orchestrator.cli.times import duration
from orchestrator.execution import progress as module
from orchestrator.execution.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def counts(done: int, running: int, failed: int = 0) -> dict[str, int]:
    return {"done": done, "running": running, "failed": failed}


def test_the_time_left_goes_by_the_work_and_not_by_the_number_of_cells(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress({"small": 10, "large": 90, "before": 1000}, {"before"})
    with progress.running():
        clock.now = 30.0
        progress.finished("small")
        progress.update(counts(2, 1))
    # 10 of 100 parts of what was left took 30 s.
    assert "2/3 cells done, 1 running, about 4 min left" in capsys.readouterr().err


def test_lines_come_now_and_then_and_less_often_in_a_long_sweep(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress({"one": 1}, set())
    with progress.running():
        for second in range(3600):
            clock.now = float(second)
            progress.update(counts(0, 1))
        lines = capsys.readouterr().err.splitlines()
    assert 20 < len(lines) < 60
    assert all("0/1 cells done, 1 running" in line for line in lines)


def test_failures_are_counted_and_quiet_updates_are_quiet(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress({"one": 1, "two": 1}, set())
    with progress.running():
        clock.now = 100.0
        progress.update(counts(1, 0), quietly=True)
        assert capsys.readouterr().err == ""
        progress.update(counts(1, 0, failed=1))
        assert "1 failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (300, "5 min"), (7200, "2.0 h"), (216000, "2.5 days")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words

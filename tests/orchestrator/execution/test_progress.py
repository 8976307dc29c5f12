"""How far a sweep is: few lines, true counts, a forecast from the work done, and what a terminal shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestrator.cli.times import duration
from orchestrator.execution import progress as module
from orchestrator.execution.progress import Progress
from orchestrator.execution.watchdog import AtWork


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


def test_epochs_that_are_trained_meanwhile_count_and_those_of_earlier_attempts_do_not(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress({"one": 100, "two": 100}, set(), epochs=10)
    with progress.running():
        progress.update(counts(0, 2), quietly=True)
        progress.shows([AtWork("one", "one", "training", 1), AtWork("two", "two", "training", 6)])
        clock.now = 300.0
        progress.shows([AtWork("one", "one", "training", 4), AtWork("two", "two", "training", 8)])
    # 30 and 20 of 200 parts took 300 s.
    assert "about 15 min left" in capsys.readouterr().err


def test_a_plain_line_says_what_is_at_work_and_how_far_each_phase_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = {"a": "search", "b": "search", "c": "final"}
    progress = Progress(dict.fromkeys(phases, 1), {"a"}, phases, epochs=9)
    with progress.running():
        progress.update(counts(1, 2), quietly=True)
        clock.now = 30.0
        progress.shows(
            [
                AtWork("b", "rotation/3/search1", "training", 4, 1234.4),
                AtWork("c", "classification/3/s0", "scoring by odin", 9, 1.0),
            ]
        )
        said = capsys.readouterr().err
    assert said == (
        "1/3 cells done (1 of 2 search, 0 of 1 final), 2 running; rotation/3/search1 epoch 4 of 9, training, "
        "1,234 images/s; classification/3/s0 epoch 9 of 9, scoring by odin\n"
    )


def test_a_terminal_shows_cells_at_work_and_the_last_results(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(module, "Console", lambda **_: terminal)
    cells = {f"key{n}": 1 for n in range(20)}
    progress = Progress(cells, set(), epochs=3)
    with progress.running():
        for n in range(5):
            progress.finished(f"key{n}", f"rotation/{n}/s0", f"AP-MSP {n}0.5%")
        progress.update(counts(5, 10, failed=1))
        progress.shows([AtWork(f"key{n}", f"rotation/{n}/s1", "training", 2, 50.0) for n in range(5, 15)])
        progress.say("rotation/4/s1 failed (OSError: disk full); it is tried again.")
    shown = written.getvalue()
    assert "5/20 cells done, 10 running, 1 failed" in shown
    assert "rotation/5/s1 epoch 2 of 3 training 50 images/s" in " ".join(shown.split())
    assert "and 2 more" in shown
    assert "rotation/13/s1" not in shown
    assert "rotation/4/s0 is done: AP-MSP 40.5%" in shown
    assert "rotation/1/s0 is done" not in shown
    assert "failed (OSError: disk full)" in shown


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

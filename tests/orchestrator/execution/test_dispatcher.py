"""What the dispatcher tells plan, tracker and display."""

from __future__ import annotations

import pytest

from orchestrator.execution.dispatcher import Dispatcher, describe
from orchestrator.execution.interruption import stop
from orchestrator.execution.progress import Progress
from orchestrator.planning.cells import lay_out
from orchestrator.planning.plan import Plan
from orchestrator.planning.studies import Outcome, suggest
from tests.hand_made_ledger import specification


class Told:
    """What a tracker is told, in order."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []

    def __getattr__(self, name: str):
        return lambda key: self.words.append((name, key))


@pytest.fixture
def team() -> tuple[Dispatcher, Told]:
    wanted = specification(holdouts=("3",), seeds=1, methods=("classification",))
    cells = lay_out(wanted, "data")
    told = Told()
    progress = Progress({cell.key: 1 for cell in cells.all()}, set())
    return Dispatcher(Plan(cells, suggest, retries=1), progress, told), told  # type: ignore[arg-type]


def test_the_tracker_hears_of_epochs_and_of_the_end(team: tuple[Dispatcher, Told]) -> None:
    dispatcher, told = team
    assignment = dispatcher.next()
    assert assignment is not None
    key = assignment.cell.key
    dispatcher.progressed(key, 1)
    dispatcher.done(key, Outcome(assignment.what), assignment.cell.label, "AP-MSP 45.2%")
    assert told.words == [("progressed", key), ("done", key)]
    assert dispatcher.next() is None


def test_a_failure_is_said_at_once_and_recorded_once_it_is_final(
    team: tuple[Dispatcher, Told], capsys: pytest.CaptureFixture[str]
) -> None:
    dispatcher, told = team
    for fate in ("it is tried again", "given up"):
        assignment = dispatcher.next()
        assert assignment is not None
        dispatcher.failed(assignment.cell.key, assignment.cell.label, "OSError: disk full")
        assert f"classification/3/s0 failed (OSError: disk full); {fate}." in capsys.readouterr().err
    assert [word for word, _ in told.words] == ["failed"]


def test_a_cell_that_advances_is_not_given_up(team: tuple[Dispatcher, Told]) -> None:
    dispatcher, told = team
    for epoch in range(1, 10):  # nine machines in turn are taken away
        assignment = dispatcher.next()
        assert assignment is not None
        dispatcher.progressed(assignment.cell.key, epoch)
        dispatcher.failed(assignment.cell.key, assignment.cell.label, "its process died")
    for _ in range(2):  # and from here on none gets any further
        assignment = dispatcher.next()
        if assignment is not None:
            dispatcher.progressed(assignment.cell.key, 9)
            dispatcher.failed(assignment.cell.key, assignment.cell.label, "its process died")
    assert dispatcher.next() is None
    assert [word for word, _ in told.words if word == "failed"] == ["failed"]


def test_errors_are_one_line() -> None:
    assert describe(ValueError("first\nsecond")) == "ValueError: first"
    assert describe(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_after_the_request_to_stop_nothing_is_handed_out_and_nothing_has_failed(
    team: tuple[Dispatcher, Told], capsys: pytest.CaptureFixture[str]
) -> None:
    dispatcher, told = team
    assignment = dispatcher.next()
    assert assignment is not None
    stop.ask()
    try:
        dispatcher.interrupted(assignment.cell.key, "stopped after epoch 2")
        assert dispatcher.next() is None
        assert dispatcher.finished
    finally:
        stop.withdraw()
    assert capsys.readouterr().err == ""
    assert told.words == []
    assert not dispatcher.finished

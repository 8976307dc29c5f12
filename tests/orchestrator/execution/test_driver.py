"""The driver: it hands the executor what is missing, and does not wait for a storage as attempts do."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.execution.attempt import PATIENCE_SECONDS
from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.execution.driver import Driver
from orchestrator.execution.executor import Executor
from orchestrator.execution.progress import Progress
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.plan import Plan
from orchestrator.planning.specification import RunSettings, Specification, data_request
from orchestrator.planning.studies import Outcome, suggest
from orchestrator.planning.sweep import Sweep
from tests.hand_made_ledger import specification


class Recorder(Executor):
    """Takes every cell as done, and remembers the sweep that it was given."""

    tracking_is_optional = True

    def __init__(self) -> None:
        self.sweeps: list[Sweep] = []

    def device_kind(self) -> str:
        return "cpu"

    def check(self, specification: Specification) -> None:
        pass

    def run(self, dispatcher: Dispatcher, sweep: Sweep) -> None:
        self.sweeps.append(sweep)
        while (assignment := dispatcher.next()) is not None:
            cell = assignment.cell
            dispatcher.done(cell.key, Outcome(assignment.what, 0.5), cell.label, "")


def test_attempts_wait_for_a_storage_and_the_driver_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(holdouts=("3",), seeds=1)
    cells = lay_out(wanted, "data")
    data = data_request(wanted, "./data", cache="", download=False)
    sweep = Sweep(wanted, RunSettings(), Ledger(str(tmp_path), "mine"), data, "data")
    progress = Progress({cell.key: 1 for cell in cells.all()}, set())
    executor = Recorder()
    driver = Driver(sweep, executor, Dispatcher(Plan(cells, suggest), progress, None), None, existed=False)
    driver.run()
    assert driver.plan.finished
    assert [each.ledger.patience for each in executor.sweeps] == [PATIENCE_SECONDS]
    assert driver.sweep.ledger.patience == 0
    assert f"Sweep mine: {len(cells.all())} cells" in capsys.readouterr().out
    driver.run()  # nothing is left, so the executor is not asked again
    assert len(executor.sweeps) == 1

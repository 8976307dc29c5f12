"""The end of a sweep: its exit code, its report, and the cells that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.plan import Plan
from orchestrator.planning.request import Request
from orchestrator.planning.studies import suggest
from orchestrator.reporting.conclusion import conclude
from tests.hand_made_ledger import finish, specification, write_sweep


def test_failed_cells_are_named_with_the_command_that_tries_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    plan = Plan(cells, suggest, retries=0)
    first, second = plan.next(), plan.next()
    assert first is not None
    assert second is not None
    finish(ledger, wanted, first.cell)
    plan.done(first.cell.key)
    plan.failed(second.cell.key, "the disk is full")
    request = Request(storage=str(tmp_path))
    assert conclude(request, ledger, plan, None) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 cells done" in printed
    assert f"1 cell failed on every attempt:\n  {second.cell.label}: the disk is full\n" in printed
    assert f"--resume --name mine --storage {tmp_path}" in printed
    assert (tmp_path / "mine" / "report" / "table.csv").exists()
    plan = Plan(cells, suggest, retries=0)
    for assignment in (plan.next(), plan.next()):
        assert assignment is not None
        finish(ledger, wanted, assignment.cell)
        plan.done(assignment.cell.key)
    assert conclude(request, ledger, plan, None) == 0
    assert "failed on every attempt" not in capsys.readouterr().out

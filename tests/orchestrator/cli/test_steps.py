"""Steps that take long are said, quick ones are not."""

from __future__ import annotations

import time

import pytest

from orchestrator.cli import steps
from orchestrator.cli.steps import step


def test_only_a_step_that_takes_long_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "MOMENT", 60.0)
    with step("Blinking"):
        pass
    monkeypatch.setattr(steps, "MOMENT", 0.0)
    with step("Starting Ray"):
        limit = time.monotonic() + 30
        while not (said := capsys.readouterr().err) and time.monotonic() < limit:
            time.sleep(0.01)
    assert said == "Starting Ray ...\n"

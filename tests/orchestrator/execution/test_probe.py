"""A probe and the sweep that it is about, for real; long, since processes start and digits are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.probe import probed, ran
from orchestrator.sweep import main

SWEEP = ["--holdouts", "3", "4", "--seeds", "1", "--executor", "inline"]


@pytest.mark.slow
def test_a_sweep_of_digits_takes_what_its_probe_says(tmp_path: Path) -> None:
    """In seconds that it has a CPU, which other work on the machine disturbs less than those on the clock."""
    expected, share = probed([*SWEEP, "--probe", "12", "--storage", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()
    assert expected.measured is not None
    assert expected.measured.processes == expected.at_once == 1
    _, _, cpu = ran(SWEEP)
    assert cpu is not None
    assert expected.hours.low < cpu / 3600 < expected.hours.high * share


@pytest.mark.slow
def test_a_dry_run_with_a_probe_says_how_it_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "classification", "--executor", "ray", "--max-concurrent", "1"]
    assert main([*words, "--dry-run", "--probe", "2", "--storage", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "(a dry run: nothing runs but the probe)" in out
    assert "CPU-hours, or " in out
    assert "evaluated images of classification (final) in 2 s on this machine, with 1 thread each" in out
    assert not (tmp_path / "runs").exists()

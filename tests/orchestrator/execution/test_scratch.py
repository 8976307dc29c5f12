"""A sweep's temporary folder: gone with the sweep, and with the next one if the sweep was killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.execution.scratch import scratch_folder
from tests.sweeps import ROOT

HOLD = """
import sys
from orchestrator.execution.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path


def test_it_is_removed_at_the_end_whatever_is_in_it(around: Path) -> None:
    with contextlib.suppress(RuntimeError), scratch_folder() as folder:
        Path(folder, "session", "logs").mkdir(parents=True)
        raise RuntimeError
    assert list(around.iterdir()) == []


def test_what_a_killed_sweep_left_goes_with_the_next_and_a_living_one_s_stays(around: Path) -> None:
    foreign = around / "sweep-results"
    foreign.mkdir()
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [Path((holder.stdout or sys.stdin).readline().strip()) for holder in holders]
    holders[0].kill()
    holders[0].communicate()
    assert folders[0].is_dir()
    with scratch_folder() as own:
        assert set(around.iterdir()) == {foreign, folders[1], Path(own)}
    holders[1].communicate("")
    assert os.listdir(around) == ["sweep-results"]

"""Cleaning up keeps the sweeps; only distclean removes them, after a question."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "answer", "kept"),
    [
        ("clean", "y\n", True),
        ("distclean", "n\n", True),
        ("distclean", "", True),
        ("distclean", "y\n", False),
    ],
)
def test_sweeps_are_removed_on_a_yes_alone(tmp_path: Path, target: str, answer: str, kept: bool) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    sources = ("orchestrator", "search_spaces", "trainables", "tests", "cluster", "benchmarks")
    for folder in (*sources, "runs/mine", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    done = subprocess.run(["make", target], cwd=tmp_path, input=answer, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "mine").exists() == kept
    assert not (tmp_path / ".venv").exists()

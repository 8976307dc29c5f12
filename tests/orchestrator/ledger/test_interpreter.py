"""The word that starts this interpreter works in the shell that it is printed in, and is short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ledger.interpreter import python


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder with an environment's interpreter, a link as in those that `python -m venv` makes."""
    (tmp_path / "work" / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "work" / ".venv" / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("searched", "within", "word"),
    [
        ("work/.venv/bin", ".", "python"),
        ("work/.venv/bin", "work", "python"),
        ("elsewhere", "work", ".venv/bin/python"),
        ("elsewhere", ".", "work/.venv/bin/python"),
        ("other/bin", "work", ".venv/bin/python"),
        ("elsewhere", "elsewhere", "{own}"),
        ("elsewhere", "work/.venv/bin", "{own}"),
    ],
)
def test_the_word_starts_this_interpreter(
    environment: Path, monkeypatch: pytest.MonkeyPatch, searched: str, within: str, word: str
) -> None:
    root, own = environment.parent, environment / ".venv" / "bin" / "python"
    for folder in ("elsewhere", "other/bin"):
        (root / folder).mkdir(parents=True)
    (root / "other" / "bin" / "python").symlink_to(own.resolve())  # the same, without the environment
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setenv("PATH", str(root / searched))
    monkeypatch.chdir(root / within)
    assert python() == word.replace("{own}", str(own))
    shown = subprocess.run(
        ["/bin/sh", "-c", f"{python()} -c 'import sys; print(sys.version)'"], capture_output=True, text=True
    )
    assert shown.stdout.strip() == sys.version


def test_a_folder_that_was_removed_takes_the_whole_path(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = environment.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("PATH", "/nowhere")
    assert python() == sys.executable

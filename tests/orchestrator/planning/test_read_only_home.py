"""A home that cannot be written: prepared data goes elsewhere, which is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep import main

QUICK = ["--holdouts", "3", "--seeds", "1", "--methods", "classification", "--executor", "inline"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; the home is a file, in which not even root can write."""
    (tmp_path / "home").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_data_is_prepared_in_a_temporary_folder(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*QUICK, "--storage", str(temporary.parent / "runs"), "--set", "epochs=1"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "cache folder cannot be written: prepared data goes to" in said
    (folder,) = temporary.glob("holdout-sweeps-*")
    assert list(folder.glob("digits-*"))


def test_a_cache_that_was_named_is_a_mistake(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*QUICK, "--storage", str(temporary.parent / "runs"), "--cache", "/dev/null/cache"]
    assert main(words) == 2
    assert "/dev/null/cache, cannot be used" in capsys.readouterr().err
    assert not (temporary.parent / "runs").exists()


def test_a_temporary_folder_of_another_s_is_a_mistake(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    (temporary / f"holdout-sweeps-{os.getuid()}").symlink_to(temporary.parent)
    assert main([*QUICK, "--storage", str(temporary.parent / "runs")]) == 2
    assert "is not yours: name another one with --cache" in capsys.readouterr().err

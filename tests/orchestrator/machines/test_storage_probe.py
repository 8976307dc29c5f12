"""Whether machines share a storage: what each finds, and that nothing is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.machines.storage_probe import StorageAnswer, StorageProbe


def test_a_machine_that_sees_the_first_one_s_file_shares_the_storage(tmp_path: Path) -> None:
    probe = StorageProbe.of(str(tmp_path / "storage"))
    assert probe.begin() == ""
    assert probe.answer() == StorageAnswer(shared=True)
    probe.end()
    assert list((tmp_path / "storage").iterdir()) == []


def test_a_machine_with_another_folder_at_that_path_does_not(tmp_path: Path) -> None:
    probe = StorageProbe.of(str(tmp_path / "one"))
    assert probe.begin() == ""
    elsewhere = replace(probe, storage=str(tmp_path / "other"))
    assert elsewhere.answer() == StorageAnswer(shared=False)


def test_a_storage_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    probe = StorageProbe.of(str(tmp_path / "file"))
    assert "\n" not in probe.begin()
    assert probe.begin() != ""
    probe.end()


def test_every_node_is_given_the_same_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert StorageProbe.of("runs").storage == str(tmp_path / "runs")
    assert StorageProbe.of("~/runs").storage == str(tmp_path / "home" / "runs")
    assert StorageProbe.of("s3://bucket/runs").storage == "s3://bucket/runs"

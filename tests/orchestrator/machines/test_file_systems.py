"""The file systems of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.machines.file_systems import on_network, sweep_disks


def test_a_folder_of_this_machine_is_no_network_folder(tmp_path: Path) -> None:
    assert not on_network("/proc")
    assert not on_network(str(tmp_path / "not" / "there"))


def test_a_relative_folder_that_is_not_there_is_where_this_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not on_network("runs")


def test_two_purposes_on_one_disk_are_one_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (disk,) = sweep_disks()
    assert disk.folder == str(tmp_path)
    assert 0 <= disk.free <= disk.total

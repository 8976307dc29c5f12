"""What one machine reports of itself."""

from __future__ import annotations

import pickle
from pathlib import Path

from orchestrator.machines.probe import DataSize, MachineReport, digest_sources, measure


def test_the_digest_changes_with_any_module(tmp_path: Path) -> None:
    (tmp_path / "orchestrator").mkdir()
    module = tmp_path / "orchestrator" / "a.py"
    module.write_text("x = 1\n")
    first = digest_sources(tmp_path)
    module.write_text("x = 2\n")
    second = digest_sources(tmp_path)
    module.rename(module.with_name("b.py"))
    assert len({first, second, digest_sources(tmp_path)}) == 3


def test_data_is_counted_in_every_folder(tmp_path: Path) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "one").write_bytes(b"123")
    (tmp_path / "set" / "deep" / "two").write_bytes(b"4567")
    assert measure(str(tmp_path)) == DataSize(files=2, bytes=7)
    assert measure(str(tmp_path / "set" / "one")) == DataSize(files=1, bytes=3)


def test_empty_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert measure(str(tmp_path / "empty")) == DataSize(0, 0, f"{tmp_path}/empty is empty")


def test_a_report_reports_what_was_not_asked_as_none_and_travels(report: MachineReport) -> None:
    assert report.storage is None
    assert report.data is None
    assert pickle.loads(pickle.dumps(report)) == report

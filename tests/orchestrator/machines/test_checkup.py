"""The order of the doctor's round, and that it leaves everything as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from orchestrator.machines.checkup import Places, check_up
from tests.sweeps import ROOT


def test_everything_is_looked_at_in_order_and_nothing_is_left(tmp_path: Path, home: Path) -> None:
    (tmp_path / "images").write_bytes(b"123")
    storage, data = tmp_path / "runs", tmp_path / "images"
    places = Places(str(storage), "127.0.0.1:9", str(data), f"sqlite:///{tmp_path}/mlflow.db")
    texts = [finding.text for finding in check_up(places)]
    assert texts[0].startswith("This machine: ")
    assert texts[-4:-1] == [
        f"The storage {storage} can be written.",
        f"The data {data}: 1 files, 0.00 GB.",
        "No Ray cluster can be reached at 127.0.0.1:9 (Connection refused).",
    ]
    assert texts[-1].startswith("The tracking database ")
    assert not storage.exists()


def test_a_storage_folder_that_was_there_stays(tmp_path: Path, home: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert list(check_up(Places(str(tmp_path / "runs"))))
    assert list((tmp_path / "runs").iterdir()) == []


def test_without_ray_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = None
from orchestrator.machines.checkup import Places, check_up
for finding in check_up(Places({str(tmp_path)!r}, "127.0.0.1:9")):
    print(finding.text)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"The storage {tmp_path} can be written" in done.stdout
    assert "The cluster at 127.0.0.1:9 cannot be looked at (" in done.stdout

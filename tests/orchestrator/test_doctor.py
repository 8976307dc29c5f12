"""The doctor as it is typed: what it prints and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.doctor import main
from orchestrator.machines import findings
from tests.sweeps import ROOT


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, server or bucket of the person who runs the tests."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI", "HOLDOUT_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as it is typed."""
    line = [sys.executable, "-m", "orchestrator.doctor", *map(str, words)]
    return subprocess.run(
        line, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_a_machine_with_nothing_wrong_is_called_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "LEAST_FREE", 0)  # whatever this machine's disk is like
    monkeypatch.setattr(findings, "LEAST_SHARE", 0.0)
    (tmp_path / "images").write_bytes(b"123")
    code = main(["--storage", str(tmp_path / "runs"), "--data", str(tmp_path / "images")])
    out = capsys.readouterr().out
    assert code == 0, out
    assert re.search(r"ok +This machine: Python \d.*, ray \d.*, torch \d", out)
    assert "1 files" in out
    assert out.endswith("All is well.\n")
    assert not (tmp_path / "runs").exists(), "the probe is removed, and the folder made for it"


def test_a_wrong_version_is_named(tmp_path: Path) -> None:
    other = tmp_path / "packages" / "ray-2.59.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.59.0\n")
    path = f"{other.parent}:{os.environ.get('PYTHONPATH', '')}"
    done = run("--storage", tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    pinned = findings.pinned_versions()["ray"]
    assert f"ray is 2.59.0, and constraints.txt pins {pinned}" in done.stdout


def test_a_missing_and_an_open_token_are_named(tmp_path: Path) -> None:
    done = run("--storage", tmp_path, RAY_AUTH_MODE="token")
    assert done.returncode == 1
    assert f"no token in {tmp_path}/.ray/auth_token" in done.stdout
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    assert "mode 644, should be 600" in run("--storage", tmp_path, RAY_AUTH_MODE="token").stdout
    (tmp_path / ".ray" / "auth_token").chmod(0o600)
    assert "token" not in run("--storage", tmp_path, RAY_AUTH_MODE="token").stdout


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    script = f"mount -t tmpfs -o size=1m none {tmp_path} && {sys.executable} -m orchestrator.doctor"
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert done.returncode == 1
    assert f"the disk of {tmp_path}, for prepared data, is full" in done.stdout


def test_data_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--storage", str(tmp_path), "--data", str(tmp_path / "nothing")]) == 1
    assert "nothing is not there" in capsys.readouterr().out


def test_a_storage_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--storage", str(tmp_path / "file")]) == 1
    assert "cannot be written from this machine" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_is_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--storage", str(tmp_path), "--address", "127.0.0.1:9"]) == 1
    assert "No Ray cluster can be reached at 127.0.0.1:9" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--addres", "x"], ["--storage", "nowhere://x"], ["more"]])
def test_mistakes_are_told_in_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_help_imports_neither_torch_nor_ray_nor_mlflow() -> None:
    code = "import sys\nsys.modules.update(dict.fromkeys(('torch', 'ray', 'mlflow')))\n"
    code += "from orchestrator.doctor import main\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--tracking-uri" in done.stdout

"""The doctor: each thing that can be wrong with a machine is named, and a well machine is called well."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.doctor import check_tracking, main
from orchestrator.machines import findings
from orchestrator.machines.probe import Asked, Condition, Disk, Gpus, digest_sources, examine, measure
from tests.sweeps import ROOT


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, server or bucket of the person who runs the tests."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI", "HOLDOUT_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def condition() -> Condition:
    """This machine, with room enough."""
    found = examine(Asked())
    return replace(found, disks=(Disk("/tmp", "Ray's files", 10 * 2**30, 20 * 2**30),), gpus=Gpus())


def texts(findings: list[findings.Finding]) -> str:
    """What is wrong, in one text."""
    return "\n".join(finding.text for finding in findings if not finding.well)


def run(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """The command as it is typed."""
    line = [sys.executable, "-m", "orchestrator.doctor", *map(str, words)]
    return subprocess.run(
        line, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_a_well_machine_is_called_well(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
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


def test_a_wrong_version_is_named(tmp_path: Path, condition: Condition) -> None:
    other = tmp_path / "packages" / "ray-2.59.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.59.0\n")
    done = run("--storage", tmp_path, PYTHONPATH=str(other.parent))
    assert done.returncode == 1
    pinned = findings.pinned_versions()["ray"]
    assert f"ray is 2.59.0, and constraints.txt pins {pinned}" in done.stdout
    absent = replace(condition, versions={**condition.versions, "ray": ""})
    assert "ray is not installed" in texts(findings.machine("here", absent, {}))


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


def test_data_that_is_missing_or_empty_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--storage", str(tmp_path), "--data", str(tmp_path / "nothing")]) == 1
    assert "nothing is not there" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert measure(str(tmp_path / "empty")) == (0, 0, f"{tmp_path}/empty is empty")


def test_a_storage_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--storage", str(tmp_path / "file")]) == 1
    assert "cannot be written from this machine" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--storage", str(tmp_path), "--address", "127.0.0.1:9"]) == 1
    assert "No Ray cluster can be reached at 127.0.0.1:9" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--addres", "x"], ["--storage", "nowhere://x"], ["more"]])
def test_mistakes_are_told_in_one_sentence(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


# Nodes beside each other


def test_a_node_like_this_machine_is_well(condition: Condition) -> None:
    safe = replace(condition, token_mode="token", open_files=65536)
    (finding,) = findings.node("n", safe, safe, {"CPU": 2}, {})
    assert finding.well


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": "3.9.1"}, "Python is 3.9.1"),
        ({"sources": "0" * 12}, "this project's files differ"),
        ({"token_mode": ""}, "whoever reaches its ports can run code there"),
        ({"open_files": 1024}, "ulimit -n 65536"),
        ({"shared": False}, "it is not shared"),
        ({"storage_error": "AccessDenied"}, "the storage cannot be written (AccessDenied)"),
        ({"data_error": "/data is not there"}, "the data cannot be read (/data is not there)"),
        ({"data_files": 7}, "the data is not this machine's"),
        (
            {"disks": (Disk("/tmp", "Ray's files", 10**9, 10**11),)},
            "the disk of /tmp, for Ray's files, is full",
        ),
        ({"disks": (Disk("/tmp", "Ray's files", 10**11, 10**13),)}, "is full"),
        ({"gpus": Gpus(("A10G", "A10G"), "470.1", 0)}, "PyTorch can use 0 of 2 GPUs"),
    ],
)
def test_what_is_wrong_with_a_node_is_named(condition: Condition, changes: dict, said: str) -> None:
    here = replace(condition, token_mode="token", open_files=65536)
    (finding,) = findings.node("10.0.0.2 (n)", replace(here, **changes), here, {"CPU": 2}, {})
    assert not finding.well
    assert finding.text.startswith("10.0.0.2 (n): ")
    assert said in finding.text


def test_gpus_that_ray_counts_and_the_driver_does_not_have_are_named(condition: Condition) -> None:
    here = replace(condition, token_mode="token", open_files=65536)
    assert "Ray counts 1 GPUs and the driver 0" in texts(findings.node("n", here, here, {"GPU": 1.0}, {}))


def test_the_digest_changes_with_any_module(tmp_path: Path) -> None:
    (tmp_path / "orchestrator").mkdir()
    module = tmp_path / "orchestrator" / "a.py"
    module.write_text("x = 1\n")
    first = digest_sources(tmp_path)
    module.write_text("x = 2\n")
    second = digest_sources(tmp_path)
    module.rename(module.with_name("b.py"))
    assert len({first, second, digest_sources(tmp_path)}) == 3


# The tracking server


class _Server(BaseHTTPRequestHandler):
    """Answers /health to everyone and the rest to who has the password, as MLflow's basic-auth app does."""

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        expected = "Basic " + base64.b64encode(b"admin:right").decode()
        self._answer(200 if self.headers.get("Authorization") == expected else 401)

    def _answer(self, code: int) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server with a password."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_tracking_server_wants_its_password(server: str, tmp_path: Path) -> None:
    refused = check_tracking(server)
    assert not refused.well
    assert "refuses this machine's password (401)" in refused.text
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = right\n"
    )
    assert check_tracking(server).well


def test_a_tracking_server_that_is_down_is_named(server: str, tmp_path: Path) -> None:
    down = check_tracking("http://127.0.0.1:9")
    assert not down.well
    assert "does not answer" in down.text
    assert check_tracking(f"sqlite:///{tmp_path}/mlflow.db").well
    (tmp_path / "folder").mkdir()
    assert not check_tracking(f"sqlite:///{tmp_path}/folder").well

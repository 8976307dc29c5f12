"""MLflow's server with and without this machine's password, and its database."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.machines.tracking_server import check_tracking


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
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_tracking_server_wants_its_password(server: str, home: Path) -> None:
    refused = check_tracking(server)
    assert not refused.ok
    assert "refuses this machine's password (401)" in refused.text
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = right\n"
    )
    assert check_tracking(server).ok


def test_a_tracking_server_that_is_down_is_named() -> None:
    down = check_tracking("http://127.0.0.1:9")
    assert not down.ok
    assert "does not answer" in down.text


def test_a_database_can_be_opened_or_is_made_later(tmp_path: Path) -> None:
    later = check_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert later.ok
    assert "is not there yet" in later.text
    (tmp_path / "there.db").touch()
    there = check_tracking(f"sqlite:///{tmp_path}/there.db")
    assert there.ok
    assert "can be opened" in there.text
    (tmp_path / "folder").mkdir()
    assert not check_tracking(f"sqlite:///{tmp_path}/folder").ok
    assert not check_tracking("nosuch://place/mlflow").ok

"""An MLflow server, and an HTTP proxy before it that loses answers, holds requests, or fails."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREATE = "/runs/create"
UPDATE = "/runs/update"
LOG = "/runs/log-batch"
HOP_HEADERS = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")

DROP = "drop"
"""The server carries the request out; the connection is closed without an answer."""
FAIL_AFTER = "fail after"
"""The server carries the request out; the answer is 500."""
FAIL_BEFORE = "fail before"
"""The server never hears of the request; the answer is 500."""
HOLD = "hold"
"""The request waits, then goes to the server, whether or not whoever sent it still listens."""
STALL = "stall"
"""The server carries the request out at once; the answer waits."""
HANG = "hang"
"""The server never hears of the request, and there is no answer until the proxy is closed."""


@dataclass
class Fault:
    """What happens to some of the requests whose path ends with a text."""

    kind: str
    path: str = CREATE
    every: int = 1
    """1 for each such request, 3 for each third one, beginning with the first."""
    times: int | None = None
    """How many requests it befalls; None for all."""
    seconds: float = 0.0
    """How long HOLD and STALL wait."""
    seen: int = field(default=0, init=False)
    befell: int = field(default=0, init=False)

    def strikes(self, path: str) -> bool:
        """Count a request; return whether the fault befalls it."""
        if not path.split("?")[0].endswith(self.path):
            return False
        self.seen += 1
        if (self.seen - 1) % self.every or (self.times is not None and self.befell >= self.times):
            return False
        self.befell += 1
        return True


class Proxy:
    """A proxy on a port of its own, whose faults can be changed at any time."""

    def __init__(self, target: str, *faults: Fault) -> None:
        """Take the address of the server, such as http://127.0.0.1:5000."""
        self.faults: list[Fault] = list(faults)
        self.requests: list[str] = []
        """The paths of all requests that came."""
        self.closed = threading.Event()
        self.release = threading.Event()
        """Ends the wait of all requests that HOLD and STALL keep waiting."""
        self._address = target.removeprefix("http://")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                with proxy._counted():
                    proxy._handle(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        self.uri = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End the proxy and the requests that it holds, which the server then never hears of."""
        self.closed.set()
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def await_idle(self, seconds: float = 60.0) -> None:
        """Return once no request is held or under way."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._under_way == 0, seconds)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            self._under_way += 1
        try:
            yield
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.requests.append(request.path)
            fault = next((each for each in self.faults if each.strikes(request.path)), None)
        kind = fault.kind if fault else ""
        if kind == FAIL_BEFORE:
            _answer(request, 500, {}, b'{"error_code": "INTERNAL_ERROR", "message": "of the proxy"}')
            return
        if kind == HANG:
            self.closed.wait()
        if kind == HOLD and fault is not None:
            self.release.wait(fault.seconds)
        if self.closed.is_set():
            request.close_connection = True
            return
        status, headers, data = self._forward(request, body)
        if kind == DROP:
            with contextlib.suppress(OSError):
                request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        if kind == FAIL_AFTER:
            status, headers, data = 500, {}, b'{"error_code": "INTERNAL_ERROR", "message": "of the proxy"}'
        if kind == STALL and fault is not None:
            self.release.wait(fault.seconds)
        _answer(request, status, headers, data)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {n: v for n, v in request.headers.items() if n.lower() not in HOP_HEADERS}
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in HOP_HEADERS}
            return answer.status, kept, answer.read()
        except OSError as error:
            return 502, {}, str(error).encode()
        finally:
            connection.close()


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
    try:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
    except OSError:  # whoever asked has gone
        request.close_connection = True


class Server:
    """An MLflow server on a port of its own with records in a folder, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Return once the server answers."""
        words = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--port", str(self.port)]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        await_true(self._answers, 120)

    def stop(self) -> None:
        """Kill the server and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def await_true(condition: Callable[[], bool], seconds: float) -> None:
    """Return once a condition holds; fail if it does not within some seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds:g} s"
        time.sleep(0.1)

"""`python -m orchestrator.ui`: show a sweep in MLflow's pages, on this machine.

It starts MLflow's server on the loopback address, prints the address of the page that compares the sweep's
cells, opens it where there is a browser, and ends the server with ctrl-C. A server that is named by its
address is not started. Exit codes: 0 the page was shown; 1 the server ended by itself; 2 a mistake in what
was asked.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser

from orchestrator.cli.parser import run_command
from orchestrator.cli.ui_options import UiRequest, read_request
from orchestrator.ledger.interpreter import python
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.planning.specification import read_stored
from orchestrator.tracking.client import CLIENT_SETTINGS
from orchestrator.tracking.tracker import experiment_of
from orchestrator.tracking.uris import is_server, resolve_tracking_uri
from orchestrator.tracking.views import view_address
from trainables.mistake import Mistake

START_SECONDS = 120.0
"""How long MLflow's server may take to start: 10 s on two free cores."""


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    request = read_request(words)
    uri = resolve_tracking_uri(request.tracking_uri, request.storage)
    benchmark = read_stored(Ledger(request.storage, request.name)).specification.benchmark
    experiment = _experiment(uri, request.name, benchmark)
    if is_server(uri):
        _show(view_address(uri, experiment, request.name), request)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        return _serve(uri, experiment, request)
    return 0


def _experiment(uri: str, name: str, benchmark: str) -> str:
    """Return the id of the experiment with the sweep's cells; raise Mistake if MLflow has no view of it."""
    found = experiment_of(uri, benchmark)
    if found is None or f"mlflow.sharedViewState.{name}" not in found.tags:
        raise Mistake(
            f"MLflow's records in {masked(uri)} have no page of the sweep {name!r}: it is saved with the "
            f"report, so end or resume the sweep, or give {python()} -m orchestrator.report {name} "
            "--rebuild-tracking."
        )
    return str(found.experiment_id)


def _serve(uri: str, experiment: str, request: UiRequest) -> int:
    """Run the server until a person ends it; return 1 if it ends by itself."""
    port = request.port or _free_port()
    origin = f"http://127.0.0.1:{port}"
    line = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    line += ["--port", str(port), "--workers", "1"]
    print("Starting MLflow's server, which takes some seconds.", flush=True)
    with subprocess.Popen(line, env={**os.environ, **CLIENT_SETTINGS}, stderr=subprocess.PIPE) as server:
        try:
            if not _answers(origin, server):
                assert server.stderr is not None
                said = server.stderr.read().decode(errors="replace").strip().splitlines()
                print(f"MLflow's server did not start: {said[-1] if said else 'it says nothing.'}")
                return 1
            _show(view_address(origin, experiment, request.name), request)
            print("Ctrl-C ends the server.", flush=True)
            _drain(server)
            return 1
        finally:
            server.terminate()


def _drain(server: subprocess.Popen[bytes]) -> None:
    """Read what the server says, so that it never waits for a reader, until it ends."""
    assert server.stderr is not None
    for _ in server.stderr:
        pass


def _answers(origin: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; return False if it ended instead, or takes too long."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{origin}/health", timeout=5):
            return True
        time.sleep(0.2)
    return False


def _show(address: str, request: UiRequest) -> None:
    print(f"The cells of {request.name}, by held-out class:  {address}", flush=True)
    if request.open:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())

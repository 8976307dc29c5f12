"""Whether MLflow can be reached: its server with this machine's password, or its database."""

from __future__ import annotations

import base64
import configparser
import contextlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from orchestrator.machines.findings import Finding, wrong
from trainables.mistake import one_line

ANSWER_SECONDS = 10


def check_tracking(uri: str) -> Finding:
    """Return whether the server at a URI answers this machine, or the database can be opened.

    MLflow itself is not imported, which would take seconds.
    """
    return _check_server(uri) if uri.startswith(("http://", "https://")) else _check_database(uri)


def _check_server(uri: str) -> Finding:
    try:
        _call(f"{uri.rstrip('/')}/health")
        _call(f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search", b'{"max_results": 1}')
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return wrong(
                f"The tracking server {uri} refuses this machine's password ({error.code}): on the head it "
                "stands in ~/.holdout-sweeps/mlflow/password; put it into ~/.mlflow/credentials, or set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
        return wrong(f"The tracking server {uri} answers {error.code}: see its log.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return wrong(
            f"The tracking server {uri} does not answer ({reason}): start it (on the head: sudo systemctl "
            "restart 'holdout-mlflow@*'), or open the tunnel to it."
        )
    return Finding(f"The tracking server {uri} answers.")


def _call(address: str, body: bytes | None = None) -> None:
    """Send a request with this machine's password. Raise HTTPError, OSError or ValueError if it fails."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    user, password = _credentials()
    if user:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        answer.read()


def _credentials() -> tuple[str, str]:
    """Return user and password as MLflow finds them: in the environment, else in its credentials file."""
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, configparser.Error):
        parser.read(Path("~/.mlflow/credentials").expanduser())
    stored = parser["mlflow"] if parser.has_section("mlflow") else {}
    user, password = (
        os.environ.get(name, stored.get(name.lower(), ""))
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    return user, password


def _check_database(uri: str) -> Finding:
    import sqlalchemy  # comes with MLflow, which may not be installed
    from sqlalchemy.exc import SQLAlchemyError

    path = uri.removeprefix("sqlite:///")
    if path != uri and not os.path.exists(path):
        return Finding(f"The tracking database {uri} is not there yet: the first sweep makes it.")
    try:
        with sqlalchemy.create_engine(uri).connect():
            return Finding(f"The tracking database {uri} can be opened.")
    except (SQLAlchemyError, ImportError) as error:
        return wrong(f"The tracking database {uri} cannot be opened ({one_line(error)}).")

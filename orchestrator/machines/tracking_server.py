"""Whether MLflow can be reached: its server with this machine's password, or its database."""

from __future__ import annotations

import base64
import configparser
import contextlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.ledger.passwords import masked, without_user
from orchestrator.machines.findings import Finding, wrong
from trainables.mistake import one_line

ANSWER_SECONDS = 10


def check_tracking(uri: str) -> Finding:
    """Return whether the server at a URI answers this machine, or the database can be opened.

    MLflow itself is not imported, which would take seconds.
    """
    return _check_server(uri) if uri.startswith(("http://", "https://")) else _check_database(uri)


def _check_server(uri: str) -> Finding:
    address, shown, login = without_user(uri).rstrip("/"), masked(uri), _login(uri)
    try:
        _call(f"{address}/health", login)
        _call(f"{address}/api/2.0/mlflow/experiments/search", login, b'{"max_results": 1}')
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return wrong(
                f"The tracking server {shown} refuses this machine's password ({error.code}): on the head it "
                "stands in ~/.holdout-sweeps/mlflow/password; put it into ~/.mlflow/credentials, or set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )
        return wrong(f"The tracking server {shown} answers {error.code}: see its log.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return wrong(
            f"The tracking server {shown} does not answer ({reason}): start it (on the head: sudo systemctl "
            "restart 'holdout-mlflow@*'), or open the tunnel to it."
        )
    return Finding(f"The tracking server {shown} answers.")


def _call(address: str, login: tuple[str, str], body: bytes | None = None) -> None:
    """Send a request with a user's name and password. Raise HTTPError, OSError or ValueError if it fails."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    if login[0]:
        secret = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        answer.read()


def _login(uri: str) -> tuple[str, str]:
    """Return user and password as MLflow finds them: environment, credentials file, else in the address."""
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, configparser.Error):
        parser.read(Path("~/.mlflow/credentials").expanduser())
    stored = parser["mlflow"] if parser.has_section("mlflow") else {}
    user, password = (
        os.environ.get(name, stored.get(name.lower(), ""))
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    if user:
        return user, password
    with contextlib.suppress(ValueError):  # an address that cannot be used is said by whoever calls it
        place = urlsplit(uri)
        return unquote(place.username or ""), unquote(place.password or "")
    return "", ""


def _check_database(uri: str) -> Finding:
    import sqlalchemy  # comes with MLflow, which may not be installed
    from sqlalchemy.exc import SQLAlchemyError

    shown, path = masked(uri), uri.removeprefix("sqlite:///")
    if path != uri and not os.path.exists(path):
        return Finding(f"The tracking database {shown} is not there yet: the first sweep makes it.")
    try:
        with sqlalchemy.create_engine(uri).connect():
            return Finding(f"The tracking database {shown} can be opened.")
    except (SQLAlchemyError, ImportError) as error:
        return wrong(f"The tracking database {shown} cannot be opened ({masked(one_line(error))}).")

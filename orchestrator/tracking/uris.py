"""Where MLflow's records are kept, and the addresses of the pages that show them; needs no MLflow."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from filelock import FileLock

from orchestrator.ledger.interpreter import python
from orchestrator.ledger.passwords import MASK, hinted, masked, without_user
from orchestrator.ledger.storage import absolute_path
from trainables.mistake import Mistake

LOCK_SECONDS = 120.0
"""How long to wait for another process that creates the tables of an SQLite file."""

SQLITE = "sqlite:///"
DATABRICKS = ("databricks", "databricks-uc", "uc")
"""Words that MLflow takes for addresses."""


def resolve_tracking_uri(explicit: str | None, storage: str) -> str:
    """Return the given URI, else MLFLOW_TRACKING_URI, else that of an SQLite file in a local storage folder.

    A masked password, as in the commands that are printed, is taken from MLFLOW_TRACKING_URI if that is
    otherwise the same. Raise Mistake if it is not, or if the storage is not local and neither is given.
    """
    from_environment = os.environ.get("MLFLOW_TRACKING_URI")
    if explicit and MASK in explicit:
        if from_environment is None or masked(from_environment) != explicit:
            raise Mistake(
                f"--tracking-uri {explicit} has no password: put it in place of {MASK}, or set "
                "MLFLOW_TRACKING_URI to the whole address."
            )
        return from_environment
    given = explicit or from_environment
    if given:
        _check_kind(given)
        return given
    if "://" in storage:
        raise Mistake(
            f"MLflow's records cannot be kept in the storage {storage}: say where its server is, with "
            "--tracking-uri or MLFLOW_TRACKING_URI."
        )
    return f"{SQLITE}{absolute_path(storage)}/mlflow.db"


def _check_kind(uri: str) -> None:
    """Raise Mistake for a folder, and for an SQLite store without a file of its own."""
    scheme = urlsplit(uri).scheme
    folder = scheme == "file" or (not scheme and uri not in DATABRICKS)
    if folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() != "true":
        raise Mistake(
            f"The tracking URI {uri} names a folder, in which MLflow keeps no records any more: give an "
            "SQLite file such as sqlite:////home/me/mlflow.db, or a server such as http://127.0.0.1:5000."
        )
    path = sqlite_path(uri)
    if scheme == "sqlite" and (not path or os.path.isdir(path)):
        raise Mistake(
            f"The tracking URI {uri} names no file: give one, such as sqlite:////home/me/mlflow.db, or leave "
            "--tracking-uri out for a file in the storage folder."
        )


def sqlite_path(uri: str) -> str | None:
    """Return the path of an SQLite store's file, which need not exist yet; None for any other store."""
    return uri.removeprefix(SQLITE) if uri.startswith(SQLITE) else None


@contextlib.contextmanager
def opening_lock(uri: str) -> Iterator[None]:
    """Hold a lock while an SQLite store is opened, since two processes that create its tables at once fail.

    Other stores need none.
    """
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with contextlib.suppress(OSError):  # opening the store reports it better
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        yield


def ui_command(uri: str) -> str:
    """Return the command that serves a store's pages, or the address of a server that already does."""
    if is_server(uri):
        return without_user(uri)
    return hinted(shlex.join([python(), "-m", "mlflow", "ui", "--backend-store-uri", masked(uri)]))


def origin(uri: str) -> str:
    """Return what the addresses of a server's pages begin with; that of a local server for a database."""
    return without_user(uri).rstrip("/") if is_server(uri) else "http://127.0.0.1:5000"


def is_server(uri: str) -> bool:
    """Return whether a URI is the address of a server, and not of a database."""
    return urlsplit(uri).scheme in ("http", "https")

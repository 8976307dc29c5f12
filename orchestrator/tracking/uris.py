"""Where MLflow's records stand, and where a person looks at them; no MLflow here."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlsplit

from filelock import FileLock

from orchestrator.ledger.storage import open_storage
from trainables.mistake import Mistake

OPENING_SECONDS = 120.0
"""For which another process may make the tables of an SQLite file that this one waits for."""

MOST_COMPARED = 100
"""Runs that an address of the comparison page names at most; more make it too long for a browser."""

COMPARED = ["final/ap_msp", "final/ap_odin", "final/test_accuracy"]


def resolve_tracking_uri(explicit: str | None, storage: str) -> str:
    """The option's URI, else MLFLOW_TRACKING_URI's, else an SQLite file in a local storage folder.

    Raises Mistake where the storage is not local and neither is given.
    """
    given = explicit or os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    if "://" in storage:
        raise Mistake(
            f"MLflow's records cannot stand in the storage {storage}: say where its server is, with "
            "--tracking-uri or MLFLOW_TRACKING_URI."
        )
    return f"sqlite:///{open_storage(storage)[1]}/mlflow.db"


@contextlib.contextmanager
def held_alone(uri: str) -> Iterator[None]:
    """Holds an SQLite file, which may not be there yet: two processes that make its tables at once fail."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = uri.removeprefix("sqlite:///")
    with contextlib.suppress(OSError):  # what cannot be made cannot be opened either, and is said then
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with FileLock(f"{path}.lock", timeout=OPENING_SECONDS):
        yield


def ui_command(uri: str) -> str:
    """The command that serves the pages of a store, or the server's own address."""
    return f"mlflow ui --backend-store-uri {uri}" if _served_here(uri) else uri


def comparison_address(uri: str, experiment: str, runs: Sequence[str], sweep: str) -> str:
    """The address of these runs' comparison page, or of the sweep's list where they are too many."""
    if len(runs) > MOST_COMPARED:
        return list_address(uri, experiment, sweep)
    lists = {"runs": list(runs), "metrics": COMPARED, "experiments": [experiment]}
    texts = {name: json.dumps(values, separators=(",", ":")) for name, values in lists.items()}
    words = "&".join(f"{name}={quote(text, safe='')}" for name, text in texts.items())
    return f"{_origin(uri)}/#/compare-runs?{words}"


def list_address(uri: str, experiment: str, sweep: str) -> str:
    """The address of the list of a sweep's runs."""
    wanted = quote(f"tags.sweep = '{sweep}'", safe="")
    return f"{_origin(uri)}/#/experiments/{experiment}/runs?searchFilter={wanted}"


def _origin(uri: str) -> str:
    return "http://127.0.0.1:5000" if _served_here(uri) else uri.rstrip("/")


def _served_here(uri: str) -> bool:
    return urlsplit(uri).scheme not in ("http", "https")

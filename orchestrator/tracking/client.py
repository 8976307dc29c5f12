"""MLflow's client: importing it takes seconds and prints what it should not, and it may not be installed."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 5, 30
"""Seconds that MLflow's client waits for an answer: few, so that the end of a sweep does not wait long for a
server that hangs, and twice as many after each time that they were not enough."""

CLIENT_SETTINGS = {
    TIMEOUT: str(LONGEST_TIMEOUT),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "DO_NOT_TRACK": "true",
}
"""Environment variables to set before MLflow is imported.

MLflow's own retries block for minutes, where ours wait in a queue, and it would print an address of its own
for the sweep's run.
"""

LEVELS = {
    "mlflow": logging.ERROR,
    "alembic": logging.ERROR,
    "mlflow.store.db.utils": logging.CRITICAL + 1,
}
"""The last prints what it raises, with a traceback; whoever it is raised to says what there is to say."""

SQLITE_STORE = "mlflow.store.tracking.sqlalchemy_store"
"""What a client imports once it asks an SQLite file."""


def import_client() -> type[MlflowClient]:
    """Return MLflow's client; raise ImportError if MLflow is not installed."""
    os.environ.update(CLIENT_SETTINGS)
    _set_levels()
    from mlflow import MlflowClient

    _set_levels()  # importing MLflow sets its own
    return MlflowClient


@contextlib.contextmanager
def imported_meanwhile(uri: str) -> Iterator[None]:
    """Import, beside a block that waits for something else, what a client of this URI needs.

    The block should import nothing large: two threads that import the same modules wait for each other.
    What cannot be imported raises its error where it is imported next.
    """

    def work() -> None:
        with contextlib.suppress(Exception):
            import_client()
            if uri.startswith("sqlite"):
                importlib.import_module(SQLITE_STORE)

    thread = threading.Thread(target=work, name="importing MLflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _set_levels() -> None:
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)

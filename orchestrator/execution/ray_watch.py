"""Ray's own death, and its own words: what the driver sees of the one, and where the other goes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray

from orchestrator.cli.signals import name_of
from orchestrator.cli.supervisor import is_supervised, tell
from orchestrator.ledger.ledger import Ledger

LOCAL_SECONDS, REMOTE_SECONDS = 0.2, 2.0
"""Between two looks at the Ray of this machine, and at one elsewhere."""

AWAY_SECONDS = 15.0
"""How long a cluster elsewhere may refuse connections before it counts as dead."""

NECESSARY = ("gcs_server", "raylet")
"""Ray's processes without which nothing goes on."""


@contextlib.contextmanager
def output_kept(ledger: Ledger) -> Iterator[None]:
    """Send what Ray's C++ prints to a file beside the sweep, and remove that if Ray ends as it should.

    Python's own error stream stays where it is. Nothing is done in a process that nobody supervises.
    """
    if not is_supervised():
        yield
        return
    path = _log_path(ledger)
    terminal, before = os.dup(2), sys.stderr
    before.flush()
    sys.stderr = open(terminal, "w", buffering=1, encoding=before.encoding, errors="replace")  # noqa: SIM115
    handler = logging.FileHandler(path)
    logger = logging.getLogger("ray")
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 2)
    os.close(log)
    tell(log=path)
    try:
        logger.addHandler(handler)
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        os.dup2(terminal, 2)
        sys.stderr.close()
        sys.stderr = before
        tell(log="")
        with contextlib.suppress(OSError):
            os.unlink(path)


def _log_path(ledger: Ledger) -> str:
    """Return a path beside the sweep's folder, or in the temporary folder if that is not of this machine."""
    name = f"{ledger.name}.ray.log"
    if ledger.local_folder is not None:
        path = os.path.join(os.path.dirname(ledger.local_folder), name)
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
            return path
    number, path = tempfile.mkstemp(prefix=f"{ledger.name}-", suffix=".ray.log")
    os.close(number)
    return path


@contextlib.contextmanager
def ended_with(address: str | None) -> Iterator[None]:
    """End this process as soon as Ray has died, and leave the word to its parent.

    Whatever asked a dead Ray would wait for a minute, and be ended by Ray's C++ then. Nothing is done in a
    process that nobody supervises.
    """
    if not is_supervised():
        yield
        return
    over = threading.Event()
    look = _look_at_cluster if address else _look_at_processes
    threading.Thread(target=look, args=(over,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _look_at_processes(over: threading.Event) -> None:
    node: Any = ray._private.worker._global_node
    found = {name: [info.process for info in node.all_processes.get(name, ())] for name in NECESSARY}
    tell(logs=node.get_logs_dir_path())
    while not over.wait(LOCAL_SECONDS):
        for name, processes in found.items():
            for process in processes:
                code = process.poll()
                if code is not None and not over.is_set():
                    how = f"was killed by {name_of(-code)}" if code < 0 else f"ended with exit code {code}"
                    _end(f"its {name} {how}")


def _look_at_cluster(over: threading.Event) -> None:
    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    answered = time.monotonic()
    while not over.wait(REMOTE_SECONDS):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=AWAY_SECONDS).close()
            answered = time.monotonic()
        except OSError:
            if time.monotonic() - answered > AWAY_SECONDS and not over.is_set():
                _end(f"nothing answers at {address}")


def _end(why: str) -> None:
    tell(why=why)
    os._exit(1)

"""The live nodes of a Ray cluster: connecting to it, listing its nodes and asking each of them."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.mistake import one_line

LISTEN_SECONDS = 5
TOKEN_HINT = "where it asks for a token, put that into ~/.ray/auth_token and set RAY_AUTH_MODE=token"

Answer = TypeVar("Answer")


class Unreachable(RuntimeError):
    """There is no cluster at an address, or it does not let this process in."""


def token_is_missing(error: Exception) -> bool:
    """Return whether a cluster may have refused this process for want of a token."""
    return os.environ.get("RAY_AUTH_MODE") != "token" or "auth" in str(error).lower()


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect this process to the cluster at an address. Raise Unreachable if that fails."""
    check_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        hint = "" if os.environ.get("RAY_AUTH_MODE") == "token" else f"; {TOKEN_HINT}"
        raise Unreachable(one_line(error) + hint) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_listens(address: str) -> None:
    """Raise Unreachable if nobody listens at an address, where ray.init would keep trying for minutes.

    "auto" is the cluster that was started last on this machine.
    """
    found = _latest_cluster() if address == "auto" else address
    if not found:
        raise Unreachable("none was started on this machine")
    host, _, port = found.rpartition(":")
    if address.startswith("ray://") or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LISTEN_SECONDS).close()
    except OSError as error:
        raise Unreachable(error.strerror or "no answer") from None


def _latest_cluster() -> str:
    """Return the address that `ray start` last left on this machine, where ray.init looks too; "" if none."""
    folder = os.environ.get("RAY_TMPDIR")
    if folder is None and sys.platform.startswith("linux"):
        folder = os.environ.get("TMPDIR", "/tmp")
    elif folder is None:
        folder = "/tmp" if sys.platform == "darwin" else tempfile.gettempdir()
    with contextlib.suppress(FileNotFoundError):
        return Path(folder, "ray", "ray_current_cluster").read_text().strip()
    return ""


@dataclass(frozen=True)
class Node:
    """A live node."""

    id: str
    address: str
    host: str
    resources: dict[str, float]
    is_head: bool

    def __str__(self) -> str:
        return f"{self.address} ({self.host})"


def live_nodes() -> list[Node]:
    """Return the nodes that are alive, the head first; a node that left and came back is listed once."""
    nodes = [
        Node(
            id=entry["NodeID"],
            address=entry["NodeManagerAddress"],
            host=entry["NodeManagerHostname"],
            resources=dict(entry["Resources"]),
            is_head="node:__internal_head__" in entry["Resources"],
        )
        for entry in ray.nodes()
        if entry["Alive"]
    ]
    return sorted(nodes, key=lambda node: (not node.is_head, node.address))


def dead_nodes() -> dict[str, str]:
    """Return, by address, why Ray thinks that machines are gone that had joined and are not there now."""
    alive = {node.address for node in live_nodes()}
    return {
        entry["NodeManagerAddress"]: _why_dead(entry)
        for entry in ray.nodes()
        if not entry["Alive"] and entry["NodeManagerAddress"] not in alive
    }


def _why_dead(entry: dict[str, Any]) -> str:
    said = str(entry.get("DeathReasonMessage") or "Ray gives no reason")
    return said.splitlines()[0].rstrip(".")


def ask(
    nodes: list[Node], question: Callable[..., Answer], *arguments: Any, seconds: float
) -> dict[str, Answer | Exception]:
    """Call a function on every node at once; return its result, or the exception raised instead, by node id.

    The calls reserve no CPU or GPU, so that they run beside whatever a node is doing. A node that does not
    answer in time is given a TimeoutError.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    calls = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            *arguments
        ): node.id
        for node in nodes
    }
    done, late = ray.wait(list(calls), num_returns=len(calls), timeout=seconds)
    answers: dict[str, Answer | Exception] = {
        calls[call]: TimeoutError(f"no answer within {seconds:g} s") for call in late
    }
    for call in late:
        ray.cancel(call, force=True)
    for call in done:
        try:
            answers[calls[call]] = ray.get(call)
        except RayError as error:
            answers[calls[call]] = error
    return answers


def reason_of(error: Exception) -> str:
    """Return in one line why a node gave no answer."""
    text = str(error)
    if "ModuleNotFoundError" in text:
        return "this project is not installed there: run ray up cluster.yaml again"
    # Ray's errors carry the node's traceback, the last line of which says what happened.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300].rstrip(".") if lines else type(error).__name__

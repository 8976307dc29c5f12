"""A Ray cluster's nodes: what each says of itself, what a sweep needs of them all, and how many may come.

Everything here is called with Ray started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.services import find_bootstrap_address
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.machines.probe import (
    SHORT_SECONDS,
    Asked,
    Condition,
    begin_probe,
    end_probe,
    examine,
    first_line,
    on_network,
    try_storage,
)
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake

BOOTSTRAP = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves the cluster's file on the head."""

LISTEN_SECONDS = 5
PREPARE_SECONDS = 3600
MOST_NAMED = 3
TOKEN_HINT = "where it asks for a token, put that into ~/.ray/auth_token and set RAY_AUTH_MODE=token"
HOW_TO_SHARE = (
    "give one that every node reaches, such as --storage s3://bucket/folder or a folder of a network file "
    "system"
)


class Unreachable(RuntimeError):
    """There is no cluster at an address, or it does not let this process in."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the cluster at an address; Unreachable where there is none."""
    check_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        hint = "" if os.environ.get("RAY_AUTH_MODE") == "token" else f"; {TOKEN_HINT}"
        raise Unreachable(first_line(error) + hint) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_listens(address: str) -> None:
    """Raises Unreachable where nobody listens at an address, on which ray.init would try for minutes.

    "auto" is the cluster that was started on this machine.
    """
    found = find_bootstrap_address(None) if address == "auto" else address
    if not found:
        raise Unreachable("none was started on this machine")
    host, _, port = found.rpartition(":")
    if address.startswith("ray://") or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LISTEN_SECONDS).close()
    except OSError as error:
        raise Unreachable(error.strerror or "no answer") from None


@dataclass(frozen=True)
class Node:
    """A live node."""

    id: str
    address: str
    host: str
    resources: dict[str, float]
    is_head: bool


def live_nodes() -> list[Node]:
    """The nodes that are alive, the head first; one that left and came back is there once."""
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


def ask(nodes: list[Node], question: Callable, *arguments: Any, seconds: float) -> dict[str, Any]:
    """Calls a function on every node at once: its answer, or the exception that came instead, by node id.

    It takes no CPU or GPU of the node, so that it runs beside whatever runs there.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    calls = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            *arguments
        ): node.id
        for node in nodes
    }
    done, late = ray.wait(list(calls), num_returns=len(calls), timeout=seconds)
    answers: dict[str, Any] = {calls[call]: TimeoutError(f"no answer within {seconds:g} s") for call in late}
    for call in late:
        ray.cancel(call, force=True)
    for call in done:
        try:
            answers[calls[call]] = ray.get(call)
        except RayError as error:
            answers[calls[call]] = error
    return answers


def conditions(nodes: list[Node], asked: Asked) -> dict[str, Condition | BaseException]:
    """What every node says of itself, by node id."""
    return ask(nodes, examine, asked, seconds=2 * SHORT_SECONDS)


# What a sweep needs


def check_nodes(storage: str, data: DataRequest, fingerprint: str) -> None:
    """Raises Mistake unless every live node can read the data and write the storage, and all share it.

    Reading is preparing: afterwards the data is ready on every node. A Ray of one node that cannot grow
    has nothing to share and is not asked.
    """
    nodes = live_nodes()
    grows = may_grow()
    if len(nodes) < 2 and not grows:
        return
    if grows and len(nodes) < 2 and "://" not in storage and not on_network(storage):
        raise Mistake(
            f"The storage {storage} is a folder of this machine, and machines that the cluster adds will not "
            f"see it: {HOW_TO_SHARE}."
        )
    _check_storage(nodes, storage)
    _refuse(
        ask(nodes, _try_data, data, fingerprint, seconds=PREPARE_SECONDS),
        nodes,
        lambda names, reason: (
            f"The data cannot be read on {names} ({reason}): it has to stand at the same "
            f"path, {data.path}, on every node, to which cluster.yaml copies the bucket's data/ as ~/data."
        ),
    )


def _check_storage(nodes: list[Node], storage: str) -> None:
    probe = f".probe-{uuid.uuid4().hex}"
    # Each node resolves it in a folder of its own.
    place = storage if "://" in storage else os.path.abspath(os.path.expanduser(storage))
    error = begin_probe(place, probe)
    if error:
        raise Mistake(
            f"The storage {storage} cannot be written ({error}): give a folder or bucket that can, with "
            "--storage."
        )
    try:
        answers = ask(nodes, try_storage, place, probe, seconds=SHORT_SECONDS)
    finally:
        end_probe(place, probe)
    unshared = {
        id: "not there"
        for id, answer in answers.items()
        if isinstance(answer, tuple) and answer == (False, "")
    }
    _refuse(
        unshared,
        nodes,
        lambda names, _: (
            f"The storage {storage} is not shared: {names} cannot see what this machine wrote "
            f"there; {HOW_TO_SHARE}."
        ),
    )
    _refuse(
        {id: answer[1] if isinstance(answer, tuple) else answer for id, answer in answers.items()},
        nodes,
        lambda names, reason: (
            f"The storage {storage} cannot be written on {names} ({reason}): give every "
            f"node the rights to it, or another --storage."
        ),
    )


def _refuse(
    answers: Mapping[str, str | BaseException], nodes: list[Node], sentence: Callable[[str, str], str]
) -> None:
    """Raises a Mistake that names the nodes with an answer other than ""; a node that has left counts not."""
    wrong = [(node, answers[node.id]) for node in nodes if answers.get(node.id)]
    if not wrong:
        return
    alive = {node.id for node in live_nodes()}
    wrong = [(node, answer) for node, answer in wrong if node.id in alive]
    if wrong:
        raise Mistake(sentence(_names([node for node, _ in wrong]), reason_of(wrong[0][1])))


def _try_data(data: DataRequest, fingerprint: str) -> str:
    """Runs on a node: "" once the data is prepared there, else why it is not."""
    try:
        prepare(data, fingerprint)
    except (Mistake, OSError) as error:
        return first_line(error)
    return ""


def _names(nodes: list[Node]) -> str:
    named = ", ".join(f"{node.address} ({node.host})" for node in nodes[:MOST_NAMED])
    more = len(nodes) - MOST_NAMED
    return f"{named} and {more} more nodes" if more > 0 else named


def reason_of(answer: str | BaseException) -> str:
    """Why a node gave no answer, in words."""
    text = str(answer)
    if "ModuleNotFoundError" in text:
        return "this project is not installed there: run ray up cluster.yaml again"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Ray's errors carry the traceback of the node, whose last line says what happened.
    return lines[-1][:300].rstrip(".") if lines else type(answer).__name__


# How many may come


def nodes_at_most() -> list[dict[str, float]]:
    """The resources of every node that the cluster has once it has grown to its maximum.

    Read from the cluster's own file, which `ray up` leaves on the head; elsewhere, and without one, the
    live nodes are all there is.
    """
    nodes = live_nodes()
    live = [node.resources for node in nodes]
    config = _bootstrap()
    if config is None:
        return live
    room = int(config.get("max_workers", 0))
    grown = [node.resources for node in nodes if node.is_head]
    kinds = [
        kind
        for name, kind in config["available_node_types"].items()
        if _adds(config, name) and kind.get("max_workers")
    ]
    for kind in sorted(kinds, key=lambda kind: -kind["resources"].get("GPU", 0)):
        count = min(room, int(kind["max_workers"]))
        # A file for machines of one's own does not say what they have: they are taken to be like the head.
        grown += [kind["resources"] or grown[0]] * count
        room -= count
    return grown if len(grown) > len(live) else live


def may_grow() -> bool:
    """Whether machines may join that are not here yet."""
    return len(nodes_at_most()) > len(live_nodes())


def absent_machines() -> list[str]:
    """Addresses that a cluster of machines of one's own lists and that have not joined."""
    provider = (_bootstrap() or {}).get("provider", {})
    here = {node.address for node in live_nodes()}
    return [address for address in provider.get("worker_ips", []) if address not in here]


def _adds(config: dict[str, Any], name: str) -> bool:
    """Whether machines of a type are added: the head's are not, unless it is the only type there is."""
    return name != config["head_node_type"] or len(config["available_node_types"]) == 1


def _bootstrap() -> dict[str, Any] | None:
    """The file of the cluster that this process is the head of, or None."""
    path = Path(BOOTSTRAP).expanduser()
    own = ray.util.get_node_ip_address()
    if not path.exists() or not any(node.is_head and node.address == own for node in live_nodes()):
        return None
    return json.loads(path.read_text())

"""What every node must be able to do before a sweep starts: share the storage and read the data."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.machines.cluster_file import may_grow
from orchestrator.machines.file_systems import on_network
from orchestrator.machines.nodes import Node, ask, live_nodes, reason_of
from orchestrator.machines.storage_probe import StorageAnswer, StorageProbe
from orchestrator.planning.plugins import Plugin, load
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake, one_line

STORAGE_SECONDS = 60
PREPARE_SECONDS = 3600
MOST_NAMED = 3
"""How many nodes an error message names before it counts the rest."""

HOW_TO_SHARE = (
    "give one that every node reaches, such as --storage s3://bucket/folder or a folder of a network file "
    "system"
)


def check_nodes(storage: str, data: DataRequest, fingerprint: str, plugins: tuple[Plugin, ...] = ()) -> None:
    """Raise Mistake unless all live nodes share the storage, can write it and can read the data.

    To read the data is to prepare it, which may take a plug-in's reader: afterwards it is ready on every
    node. A Ray of one node that cannot grow has nothing to share and is not checked. Called with Ray started.
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
    _check_data(nodes, data, fingerprint, plugins)


def _check_storage(nodes: list[Node], storage: str) -> None:
    probe = StorageProbe.of(storage)
    error = probe.begin()
    if error:
        raise Mistake(
            f"The storage {storage} cannot be written ({error}): give a folder or bucket that can, with "
            "--storage."
        )
    try:
        answers = ask(nodes, StorageProbe.answer, probe, seconds=STORAGE_SECONDS)
    finally:
        probe.end()
    blind, _ = _faulty(nodes, {id: "unshared" for id, answer in answers.items() if _sees_nothing(answer)})
    if blind:
        raise Mistake(
            f"The storage {storage} is not shared: {blind} cannot see what this machine wrote there; "
            f"{HOW_TO_SHARE}."
        )
    errors = {
        id: answer.error if isinstance(answer, StorageAnswer) else answer for id, answer in answers.items()
    }
    failing, reason = _faulty(nodes, errors)
    if failing:
        raise Mistake(
            f"The storage {storage} cannot be written on {failing} ({reason}): give every node the rights to "
            "it, or another --storage."
        )


def _sees_nothing(answer: StorageAnswer | Exception) -> bool:
    """Return whether a node can read the storage and does not find this machine's file there."""
    return isinstance(answer, StorageAnswer) and not answer.shared and not answer.error


def _check_data(nodes: list[Node], data: DataRequest, fingerprint: str, plugins: tuple[Plugin, ...]) -> None:
    answers = ask(nodes, _prepare_data, data, fingerprint, plugins, seconds=PREPARE_SECONDS)
    failing, reason = _faulty(nodes, answers)
    if failing:
        raise Mistake(
            f"The data cannot be read on {failing} ({reason}): it has to stand at the same path, "
            f"{data.path}, on every node, to which cluster.yaml copies the bucket's data/ as ~/data."
        )


def _prepare_data(data: DataRequest, fingerprint: str, plugins: tuple[Plugin, ...]) -> str:
    """Prepare the data on the node that this runs on; return why that failed, "" if it did not."""
    try:
        load(plugins)
        prepare(data, fingerprint)
    except (Mistake, OSError) as error:
        return one_line(error)
    return ""


def _faulty(nodes: list[Node], errors: Mapping[str, str | Exception]) -> tuple[str, str]:
    """Return the names of the nodes with an error and the first one's reason; "" and "" if there are none.

    Nodes that have left the cluster in the meantime do not count.
    """
    faulty = [(node, error) for node in nodes if (error := errors.get(node.id))]
    if faulty:
        alive = {node.id for node in live_nodes()}
        faulty = [(node, error) for node, error in faulty if node.id in alive]
    if not faulty:
        return "", ""
    names = ", ".join(str(node) for node, _ in faulty[:MOST_NAMED])
    if len(faulty) > MOST_NAMED:
        names += f" and {len(faulty) - MOST_NAMED} more nodes"
    _, error = faulty[0]
    return names, error if isinstance(error, str) else reason_of(error)

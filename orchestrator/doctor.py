"""`python -m orchestrator.doctor`: says in plain words what is wrong with this machine or cluster.

Exit codes: 0 all is well; 1 something is wrong; 2 a mistake in what was asked. Nothing is changed; the
storage is written a small file, which is removed again.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import contextlib
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.sweep_options import Parser
from orchestrator.machines.findings import Finding, machine, node, pinned_versions, wrong
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from orchestrator.machines.nodes import Node
    from orchestrator.machines.probe import Asked, Condition

ANSWER_SECONDS = 10


def main(words: list[str] | None = None) -> int:
    """Prints the findings and returns the exit code."""
    try:
        given = _parser().parse_args(words)
        wrong = 0
        for finding in examine_all(given.address, given.storage, given.data, given.tracking_uri):
            print(f"{'ok   ' if finding.well else 'WRONG'}  {finding.text}", flush=True)
            wrong += not finding.well
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr)
        return 2
    if wrong:
        print(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.")
    else:
        print("\nAll is well.")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    bucket = os.environ.get("HOLDOUT_BUCKET")
    parser = Parser(
        prog="python -m orchestrator.doctor",
        description="Says what is wrong with this machine, or with every node of a cluster.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--address",
        metavar="A",
        default=os.environ.get("RAY_ADDRESS"),
        help="a Ray cluster's address (default: RAY_ADDRESS, else this machine alone is looked at)",
    )
    add(
        "--storage",
        metavar="URI",
        default=f"{bucket}/runs" if bucket else "./runs",
        help="the folder or bucket of the sweeps (default: HOLDOUT_BUCKET's runs/, else ./runs)",
    )
    add("--data", metavar="PATH", help="a data set that every node has to read (default: none)")
    add(
        "--tracking-uri",
        metavar="URI",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow's (default: MLFLOW_TRACKING_URI, else none is looked for)",
    )
    return parser


def examine_all(
    address: str | None, storage: str, data: str | None, tracking_uri: str | None
) -> Iterator[Finding]:
    """Everything that is looked at, as it is found."""
    from orchestrator.ledger.storage import open_storage
    from orchestrator.machines.probe import Asked, begin_probe, end_probe, examine

    open_storage(storage)
    place = storage if "://" in storage else os.path.abspath(os.path.expanduser(storage))
    path = os.path.abspath(os.path.expanduser(data)) if data else None
    probe = f".probe-{uuid.uuid4().hex}"
    made = "://" not in place and not os.path.exists(place)
    error = begin_probe(place, probe)
    try:
        asked = Asked(None if error else place, probe, path)
        here = examine(asked)
        yield from machine("This machine", here, pinned_versions())
        yield _storage_here(place, error)
        if path:
            yield _data_here(path, here)
        if address:
            yield from _cluster(address, asked, here)
    finally:
        end_probe(place, probe)
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(place)
    if tracking_uri:
        yield check_tracking(tracking_uri)


def _storage_here(storage: str, error: str) -> Finding:
    if error:
        return wrong(f"The storage {storage} cannot be written from this machine ({error}).")
    return Finding(f"The storage {storage} can be written.")


def _data_here(path: str, here: Condition) -> Finding:
    if here.data_error:
        return wrong(f"The data cannot be read on this machine ({here.data_error}).")
    return Finding(f"The data {path}: {here.data_files} files, {here.data_bytes / 1e9:.2f} GB.")


def _cluster(address: str, asked: Asked, here: Condition) -> Iterator[Finding]:
    """The cluster at an address, node by node."""
    from orchestrator.machines import nodes

    try:
        with nodes.connected(address):
            found = nodes.live_nodes()
            yield Finding(f"The cluster at {address} has {len(found)} live nodes.")
            for absent in nodes.absent_machines():
                yield wrong(
                    f"{absent}: the machine is in the cluster's file and has not joined: log in there and "
                    "run this command, and see monitor.out in the head's /tmp/ray/session_latest/logs."
                )
            answers = nodes.conditions(found, asked)
            for each in found:
                yield from _node(each, answers[each.id], here)
    except nodes.Unreachable as failure:
        yield wrong(f"No Ray cluster can be reached at {address} ({failure}).")


def _node(each: Node, answer: Condition | BaseException, here: Condition) -> list[Finding]:
    from orchestrator.machines.nodes import reason_of

    name = f"{each.address} ({each.host})"
    if isinstance(answer, BaseException):
        return [wrong(f"{name}: the node gives no answer ({reason_of(answer)}).")]
    return node(name, answer, here, each.resources, pinned_versions())


# The tracking server


def check_tracking(uri: str) -> Finding:
    """Whether MLflow's server answers and takes this machine's password, or its database can be opened."""
    if not uri.startswith(("http://", "https://")):
        return _check_database(uri)
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
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    user, password = _credentials()
    if user:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        answer.read()


def _credentials() -> tuple[str, str]:
    """User and password as MLflow finds them: the credentials file's, over which the environment's go."""
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
    import sqlalchemy

    path = uri.removeprefix("sqlite:///")
    if path != uri and not os.path.exists(path):
        return Finding(f"The tracking database {uri} is not there yet: the first sweep makes it.")
    try:
        with sqlalchemy.create_engine(uri).connect():
            return Finding(f"The tracking database {uri} can be opened.")
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        return wrong(f"The tracking database {uri} cannot be opened ({str(error).splitlines()[0]}).")


if __name__ == "__main__":
    sys.exit(main())

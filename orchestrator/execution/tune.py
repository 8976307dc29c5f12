"""Tune's side of the plan: one Tuner.fit() whose trials are the plan's cells.

Tune is asked for resources, placement, autoscaling and the detection of failures. What comes next, what
is done and what is tried again is the plan's to say, and resuming is the ledger's: Tune's own snapshots
are not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.search import Searcher

from orchestrator.execution.attempt import Task, run_trial
from orchestrator.execution.dispatcher import Foreman, describe
from orchestrator.execution.resources import Resources, check_fits, trials_at_once
from orchestrator.ledger.ledger import Ledger
from orchestrator.machines.cluster_file import nodes_at_most
from orchestrator.machines.nodes import check_listens
from orchestrator.machines.preflight import check_nodes
from orchestrator.machines.ray_token import token_path
from orchestrator.planning.cells import Cell
from trainables.mistake import Mistake
from trainables.train import Diverged

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Set before Ray starts: its chatter and book-keeping kept out of the way, and groups seen to end at once."""


LONGEST_REST = 60.0


class CellSearcher(Searcher):
    """Hands the plan's cells to Tune as trial configurations."""

    def __init__(self, foreman: Foreman) -> None:
        super().__init__(metric="epoch", mode="max")
        self._foreman = foreman
        self._cells: dict[str, Cell] = {}

    def __getstate__(self) -> dict:
        """Tune keeps a copy of its settings on disk, which nothing reads: the plan stays out of it."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_foreman", "_cells")}

    def suggest(self, trial_id: str) -> Any:
        """A cell's configuration, None where none is ready, FINISHED at the end."""
        assignment = self._foreman.next()
        if assignment is None:
            return Searcher.FINISHED if self._foreman.plan.finished else None
        self._cells[trial_id] = assignment.cell
        return {"cell": dataclasses.asdict(assignment.cell), "aux_weights": assignment.aux_weights}

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """The trial reports epochs that the ledger holds."""
        self._foreman.progressed(self._cells[trial_id].key, result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The trial ended: with its cell done, with an error that it caught, or with its process dead."""
        cell = self._cells.pop(trial_id)
        if error or not result or "ending" not in result:
            self._foreman.failed(cell.key, cell.label, "its process died")
        elif result["ending"] == "done":
            self._foreman.done(cell.key, result["value"])
        else:
            hopeless = result["ending"] == "hopeless"
            self._foreman.failed(cell.key, cell.label, result["error"], hopeless=hopeless)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a sweep resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a sweep resumes from."""


_failures: list[str] = []
"""What this process's trials died of, since the last that did not."""


def tune_trial(config: dict, task: Task, resources: Resources, scratch: str) -> None:
    """The function that Tune runs in a trial's process: one attempt at one cell."""
    cell, weights = Cell(**config["cell"]), config["aux_weights"]
    try:
        if resources.workers > 1:
            from orchestrator.execution.train_group import run_group  # takes seconds to import

            run_group(task, cell, weights, resources, scratch)
        else:
            result = run_trial(task, cell, weights, lambda _, epoch: tune.report({"epoch": epoch}))
            value = result["values"].get("value")
            tune.report({"epoch": task.specification.recipe.epochs, "ending": "done", "value": value})
    except Diverged as error:  # reported, so that the process can take the next cell
        tune.report({"epoch": 0, "ending": "hopeless", "error": describe(error)})
    except Exception as error:
        said = f"{describe(error)}, on {socket.gethostname()}"
        _failures.append(said)
        time.sleep(_rest(len(_failures)))
        tune.report({"epoch": 0, "ending": "failed", "error": said})
    else:
        _failures.clear()


def _rest(failures: int) -> float:
    """Seconds that a process takes before the next cell after so many failures in a row.

    A machine on which nothing works would else use up every cell's tries while the others train.
    """
    return min(2.0 ** (failures - 2), LONGEST_REST) if failures > 1 else 0.0


@contextlib.contextmanager
def ray_started(address: str | None) -> Iterator[None]:
    """Ray of this machine, started here and ended here, or the cluster at an address.

    The environment of this process is afterwards what it was: Ray and its settings change it.
    """
    with _environment_restored():
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        with _ray(address or os.environ.get("RAY_ADDRESS")):
            yield


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Undoes whatever changes in this process's environment meanwhile."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Without an address Ray would join whatever cluster `ray start` last began on this machine.
    alone = {"address": "local", "include_dashboard": False}
    options: dict[str, Any] = {"address": address} if address else alone
    try:
        if address:
            check_listens(address)
        else:
            _bring_token()
        ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise Mistake(
            f"No Ray cluster answers at {address!r} ({describe(error)}): check --address."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _bring_token() -> None:
    """Gives a Ray of this machine the token that its processes ask each other for, where a person has none.

    It stands in the environment of those processes, which their owner alone can read; Ray itself would
    write it into the home folder, readable for everyone.
    """
    wanted = os.environ.get("RAY_AUTH_MODE", "token") == "token"
    if wanted and "RAY_AUTH_TOKEN" not in os.environ and not token_path().exists():
        os.environ["RAY_AUTH_TOKEN"] = _own_token()


@functools.cache
def _own_token() -> str:
    """One token a process: Ray reads it once, however often it is started."""
    return secrets.token_hex(32)


def run_on_ray(foreman: Foreman, task: Task, resources: Resources, *, gpus_named: bool) -> None:
    """Runs the plan to its end on the Ray that is started.

    Raises Mistake, before anything runs, where the cluster cannot hold a trial, or its nodes do not share
    the storage or cannot read the data.
    """
    nodes = nodes_at_most()
    if not gpus_named and not resources.gpus_per_worker and any(node.get("GPU") for node in nodes):
        raise Mistake(
            "The cluster has GPUs, and this machine, which has none, cannot tell whether they are meant: "
            "give --gpus-per-worker 1, or a share such as 0.25, or 0 to train on CPUs."
        )
    check_fits(resources, nodes)
    check_nodes(task.ledger.storage, task.data, task.fingerprint)
    with _scratch(task.ledger, alone=len(nodes) == 1) as scratch:
        trainable = tune.with_parameters(tune_trial, task=task, resources=resources, scratch=scratch)
        tune.Tuner(
            tune.with_resources(trainable, resources.trial),
            tune_config=tune.TuneConfig(
                search_alg=CellSearcher(foreman),
                num_samples=-1,
                max_concurrent_trials=trials_at_once(resources, nodes),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name=task.ledger.name, storage_path=scratch, verbose=0),
        ).fit()


@contextlib.contextmanager
def _scratch(ledger: Ledger, *, alone: bool) -> Iterator[str]:
    """A folder for Ray's own book-keeping, which every node must reach; nothing in it is read again."""
    if alone:
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            yield folder
        return
    try:
        yield ledger.uri("ray")
    finally:
        with contextlib.suppress(OSError):  # what is left there is nothing to anybody
            ledger.remove_folder("ray")

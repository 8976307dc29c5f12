"""A sweep on Ray: one Tuner.fit() whose trials are the plan's cells.

Tune provides resources, placement, autoscaling and the detection of failures. What comes next, what is done
and what is tried again is the plan's to say, and resuming is the ledger's: Tune's own snapshots are not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import ray
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory, resource_dict_to_pg_factory
from ray.tune.search import Searcher

from orchestrator.cli.signals import STOPPING
from orchestrator.execution.attempt import run_attempt
from orchestrator.execution.dispatcher import Dispatcher, describe
from orchestrator.execution.interruption import Interrupted, stop
from orchestrator.execution.memory import GPU, HOST, advice, short_by, short_of
from orchestrator.execution.pulse import ask_to_stop, beating, cells_watched, free_workers, kernel_ended
from orchestrator.execution.ray_watch import ended_with, output_kept
from orchestrator.execution.resources import Resources, cells_at_once, check_fits
from orchestrator.execution.scratch import scratch_folder
from orchestrator.execution.trial_deaths import Deaths, ends_by_ray_are_deaths
from orchestrator.execution.trial_reports import ended, failed, interrupted
from orchestrator.execution.watchdog import REPORTING, Stall, Watchdog
from orchestrator.ledger import attempts
from orchestrator.ledger.interpreter import python
from orchestrator.ledger.ledger import Ledger
from orchestrator.machines.cluster_file import nodes_at_most
from orchestrator.machines.nodes import TOKEN_HINT, check_listens, token_is_missing
from orchestrator.machines.preflight import check_nodes
from orchestrator.machines.ray_token import has_private_token
from orchestrator.planning.cells import Cell
from orchestrator.planning.plan import Assignment
from orchestrator.planning.studies import Outcome
from orchestrator.planning.sweep import Sweep
from trainables.failures import PermanentFailure
from trainables.heartbeat import beat, rest
from trainables.mistake import Mistake
from trainables.run import parse_method

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
"""Set before Ray starts: no chatter, little bookkeeping, and the end of a group is noticed at once."""

HELD_BACK = ("_dispatcher", "_dog", "_cells", "_deaths", "_sweep", "_nodes")
"""Fields of the searcher that Tune's copy of it lacks."""

LONGEST_REST = 60.0
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class Room:
    """What there is for a sweep on the Ray that was started."""

    at_once: int
    """How many cells run at once."""
    scratch: str
    """A folder for Ray's own bookkeeping that every node reaches; nothing in it is read again."""
    nodes: list[dict[str, float]]
    """The resources of its nodes, once it has grown to its maximum."""


@contextlib.contextmanager
def ray_ready(address: str | None, sweep: Sweep, resources: Resources) -> Iterator[Room]:
    """Start Ray, or connect to it at an address, and end it afterwards.

    Raises Mistake if the cluster cannot hold a cell, or its nodes do not share the storage or cannot read the
    data.
    """
    with scratch_folder() as own, output_kept(sweep.ledger), ray_started(address, own), ended_with(address):
        nodes = nodes_at_most()
        check_fits(resources, nodes)
        check_nodes(sweep.ledger.storage, sweep.data, sweep.fingerprint, sweep.plugins)
        with _shared_scratch(sweep.ledger, own, alone=len(nodes) == 1) as scratch:
            yield Room(cells_at_once(resources, nodes), scratch, nodes)


def cluster_has_gpus(address: str) -> bool:
    """Return whether the Ray at an address has GPUs, or can grow by machines that have."""
    with scratch_folder() as own, ray_started(address, own):
        return any(node.get("GPU") for node in nodes_at_most())


def run_on_ray(dispatcher: Dispatcher, sweep: Sweep, resources: Resources, room: Room) -> None:
    """Run the plan to its end."""
    dog = Watchdog(sweep.settings.stall_seconds)
    with cells_watched(dog, dispatcher.progress) as pulse, stop.passed_on(lambda: ask_to_stop(pulse)):
        _fit(dispatcher, sweep, resources, room, dog, pulse)


def _fit(
    dispatcher: Dispatcher, sweep: Sweep, resources: Resources, room: Room, dog: Watchdog, pulse: str
) -> None:
    deaths = Deaths()
    trainable = tune.with_parameters(
        tune_trial, sweep=sweep, resources=resources, scratch=room.scratch, pulse=pulse
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, functools.partial(_placement, resources)),
        tune_config=tune.TuneConfig(
            search_alg=CellSearcher(dispatcher, dog, deaths, sweep, resources, room.nodes),
            scheduler=deaths,
            num_samples=-1,
            max_concurrent_trials=room.at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=sweep.ledger.name, storage_path=room.scratch, verbose=0),
    )
    with dispatcher.progress.running(), ends_by_ray_are_deaths():
        tuner.fit()


def _placement(resources: Resources, config: dict[str, Any]) -> PlacementGroupFactory:
    """Return what Tune reserves for a trial, and beside it what keeps others away if it is to be alone.

    The process itself has the CPUs that it always has: how many threads add up a sum decides its rounding.
    """
    usual, alone = resources.trial, config.get("alone")
    if alone is None or resources.workers > 1:
        found: PlacementGroupFactory = resource_dict_to_pg_factory(usual)
        return found
    bundles = [{"CPU": usual["cpu"], "GPU": alone["gpus_per_worker"]}]
    bundles.append({"CPU": alone["cpus_per_worker"] - usual["cpu"]})
    taken = [{kind: n for kind, n in bundle.items() if n > 0} for bundle in bundles]
    return PlacementGroupFactory([bundle for bundle in taken if bundle], strategy="STRICT_PACK")


class CellSearcher(Searcher):
    """Hands the plan's cells to Tune as the configurations of trials."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        dog: Watchdog,
        deaths: Deaths,
        sweep: Sweep,
        resources: Resources,
        nodes: list[dict[str, float]],
    ) -> None:
        super().__init__(metric="epoch", mode="max")
        self._dispatcher, self._dog = dispatcher, dog
        self._deaths, self._sweep = deaths, sweep
        self._resources, self._nodes = resources, nodes
        self._cells: dict[str, Cell] = {}
        self._short: dict[str, str] = {}
        """By key, whose memory ran out: these cells run alone from then on."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plan out of the copy that Tune keeps on disk and nothing reads."""
        return {name: value for name, value in vars(self).items() if name not in HELD_BACK}

    def suggest(self, trial_id: str) -> Any:
        """Return a cell's configuration, None if none is ready, FINISHED at the end."""
        if any(cell.key in self._short and not self._dog.started(t) for t, cell in self._cells.items()):
            return None  # others would take, again and again, what it waits for
        assignment = self._dispatcher.next()
        if assignment is None:
            return Searcher.FINISHED if self._dispatcher.finished else None
        cell = self._cells[trial_id] = assignment.cell
        self._dog.began(trial_id, cell.key, cell.label)
        short = self._short.get(cell.key)
        return {
            **assignment.as_json(),
            "trial": trial_id,
            "alone": dataclasses.asdict(self._resources.alone(short, self._nodes)) if short else None,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take a report of epochs that the ledger holds."""
        self._dispatcher.progressed(self._cells[trial_id].key, result["epoch"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take the end of a trial: its cell is done, or it failed with an error, or its process died."""
        signs = self._dog.last_signs(trial_id)
        cell, stall = self._cells.pop(trial_id), self._dog.ended(trial_id)
        if error or not result or "ending" not in result:
            free_workers(signs)
            why = self._deaths.why(trial_id)
            result = failed(why, retryable=True, short_of=short_by(why), lost_workers=True)
        if result["ending"] == "done":
            outcome = Outcome.of(json.loads(result["outcome"]))
            self._dispatcher.done(cell.key, outcome, cell.label, result["measured"])
        elif result["ending"] == "at a rung":
            self._dispatcher.reached(cell.key, result["epoch"], result["value"])
        elif stall is not None:
            self._stalled(cell, stall)
        elif result["ending"] == "interrupted":
            self._dispatcher.interrupted(cell.key, result["error"])
        elif result["short_of"] or (result["lost_workers"] and kernel_ended(signs)):
            self._ran_out(cell, result["error"], result["short_of"] or HOST)
        else:
            self._dispatcher.failed(cell.key, cell.label, result["error"], retryable=result["retryable"])

    def _stalled(self, cell: Cell, stall: Stall) -> None:
        """Write down, and pass on, that a cell stood still and was ended."""
        ledger = self._sweep.ledger
        with contextlib.suppress(OSError):  # the next attempt closes the record as well
            ledger.end_attempt(cell.key, ledger.attempts(cell.key), attempts.STALLED, str(stall))
        self._dispatcher.failed(cell.key, cell.label, str(stall))

    def _ran_out(self, cell: Cell, error: str, short: str) -> None:
        """Pass on that a cell ran out of memory: it is tried once more, alone, and then given up."""
        whose = "GPU memory" if short == GPU else "memory"
        if self._short.get(cell.key) == short:
            hint = advice(short, self._sweep.specification.recipe, self._resources.gpus_per_worker)
            self._dispatcher.failed(
                cell.key, cell.label, f"{error}; {whose} ran out though it ran alone; {hint}", retryable=False
            )
            return
        self._short[cell.key] = short
        where = "with its GPUs to itself" if short == GPU else "alone on its machine"
        self._dispatcher.failed(cell.key, cell.label, f"{whose} ran out: {error}", how=f", {where}")

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger is what a sweep resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger is what a sweep resumes from."""


class FailureStreak:
    """How many attempts failed in a row in this process."""

    def __init__(self) -> None:
        self.length = 0

    @property
    def rest(self) -> float:
        """Seconds that the process waits before its next cell.

        A machine on which nothing works would otherwise use up every cell's retries while others train.
        """
        return min(2.0 ** (self.length - 2), LONGEST_REST) if self.length > 1 else 0.0


@functools.cache
def _streak() -> FailureStreak:
    """Return this process's streak: Tune reuses a process from trial to trial."""
    return FailureStreak()


def tune_trial(config: dict[str, Any], sweep: Sweep, resources: Resources, scratch: str, pulse: str) -> None:
    """Make one attempt at one cell: the function that Tune runs in a trial's process."""
    trains = parse_method(config["cell"]["method"]).trains and not config["stops"]
    together = resources.workers > 1 and trains
    stop.withdraw()
    with beating(pulse, config["trial"], asked=stop.ask, guards=together):
        _attempt(config, sweep, resources, scratch, pulse, together=together)


def _attempt(
    config: dict[str, Any], sweep: Sweep, resources: Resources, scratch: str, pulse: str, *, together: bool
) -> None:
    assignment = Assignment.of(config)
    taken = Resources(**config["alone"]) if config["alone"] else resources
    threads = resources.threads if config["alone"] else None
    try:
        if together:
            from orchestrator.execution.train_group import run_group  # takes seconds to import

            run_group(sweep, assignment, taken, scratch, pulse, config["trial"], threads)
        else:
            usage = dataclasses.replace(taken, workers=1).usage
            result = run_attempt(sweep, assignment, lambda _, epoch: _report({"epoch": epoch}), usage=usage)
            _report(ended(result, sweep.specification.recipe.epochs))
    except PermanentFailure as error:  # reported, so that the process can take the next cell
        _report(failed(describe(error), retryable=False, short_of=short_of(error)))
    except Interrupted as error:
        _report(interrupted(str(error)))
    except (Exception, SystemExit) as error:
        _streak().length += 1
        rest(_streak().rest, "resting after failures")
        said = f"{describe(error)}, on {socket.gethostname()}"
        lost = type(error).__name__ == "GroupFailed"
        _report(failed(said, retryable=True, short_of=short_of(error), lost_workers=lost))
    else:
        _streak().length = 0


def _report(values: dict[str, Any]) -> None:
    """Report to Tune, which takes as long as the driver does."""
    beat(REPORTING)
    tune.report(values)


@contextlib.contextmanager
def ray_started(address: str | None, temporary: str | None = None) -> Iterator[None]:
    """Start a Ray of this machine and end it afterwards, or connect to the cluster at an address.

    A Ray of this machine keeps its files in a temporary folder, by default Ray's own. The environment of this
    process and its signals are afterwards what they were before: Ray and its settings change them.
    """
    with _environment_restored():
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        with _ray(address, temporary):
            yield


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    """Undo, at the end, whatever has changed in this process's environment."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextlib.contextmanager
def _ray(address: str | None, temporary: str | None) -> Iterator[None]:
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Without an address Ray would join whatever cluster `ray start` last began on this machine.
    alone = {"address": "local", "include_dashboard": False, "_temp_dir": temporary}
    options: dict[str, Any] = {"address": address} if address else alone
    try:
        if address:
            check_listens(address)
        else:
            _bring_token()
        with _signals_kept():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
    except Mistake:
        raise
    except Exception as error:  # Ray's own, and a plain one if a loaded machine takes too long
        raise Mistake(_not_started(address, error)) from None
    # What becomes of a trial is said by the dispatcher, and once more by Tune, with tracebacks.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _not_started(address: str | None, error: Exception) -> str:
    if address is None:
        doctor = f"{python()} -m orchestrator.doctor"
        return f"Ray does not start on this machine ({describe(error)}): see {doctor}."
    hint = f"; {TOKEN_HINT}" if token_is_missing(error) else ""
    return f"No Ray cluster answers at {address!r} ({describe(error)}): check --address{hint}."


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what Ray does to the handlers of signals: it would end the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _bring_token() -> None:
    """Give a local Ray the token that its processes ask each other for, unless the person has one.

    It stands in the environment of those processes, which only their owner can read; Ray itself would write
    it into the home folder, where everybody can.
    """
    wanted = os.environ.get("RAY_AUTH_MODE", "token") == "token"
    if wanted and not has_private_token():
        os.environ["RAY_AUTH_TOKEN"] = _own_token()


@functools.cache
def _own_token() -> str:
    """Return this process's token: Ray reads it only once, however often it is started."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _shared_scratch(ledger: Ledger, own: str, *, alone: bool) -> Iterator[str]:
    """Give a folder for Ray's own bookkeeping that every node reaches; `own` is this machine's."""
    if alone:
        yield os.path.join(own, "tune")
        return
    try:
        yield ledger.scratch_uri
    finally:
        with contextlib.suppress(OSError):  # what is left there matters to nobody
            ledger.remove_scratch()

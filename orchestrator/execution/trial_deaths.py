"""Why a trial's process died, in Ray's own words, and on which machine."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from trainables.mistake import one_line

MEMORY = "ended by Ray, due to the node running low on memory"
NODE_DIED = "the machine left the cluster"
VANISHED = (
    "killed from outside, by the system when memory ran out, or crashed; its machine's kernel log tells which"
)


def why_it_died(trial: Trial) -> str:
    """Return in a line why the process of a trial died, and where."""
    error = None
    if trial.pickled_error_file is not None:
        with contextlib.suppress(Exception):  # whatever it holds, there is a sentence to say
            error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    return in_words(error) if isinstance(error, BaseException) else "its process died"


def in_words(error: BaseException) -> str:
    """Return in a line why a process of Ray's died, and where."""
    text = str(error)
    if not isinstance(error, RayActorError):
        return f"its process died ({one_line(error)})"
    pid, address = _field("pid", text), _field("ip", text)
    place = f" on {_host(address)}" if address else ""
    process = f"its process{f' {pid}' if pid else ''} died{place}"
    return f"{process} ({_cause(text)})"


def _cause(text: str) -> str:
    """Return what Ray says of a process's end, in few words."""
    code = re.search(r"exits? with an? exit code (-?\d+)", text)
    if code:
        return f"exit code {code[1]}"
    if "node has died" in text or "node was terminated" in text:
        return NODE_DIED
    if "due to the node running low on memory" in text:
        return MEMORY
    if "killed by `ray.kill`" in text:
        return "ended by Ray"
    if "connection error code 2" in text:
        return VANISHED
    detail = re.search(r"Worker exit detail: (.*)", text) or re.search(
        r"The actor is dead because (.*)", text
    )
    return (detail[1] if detail else text.strip().splitlines()[-1]).rstrip(".")[:300]


def _field(name: str, text: str) -> str:
    found = re.search(rf"^\s*{name}: (\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _host(address: str) -> str:
    """Return an address with the name of its machine, if Ray knows it."""
    with contextlib.suppress(RayError, RuntimeError):
        for node in ray.nodes():
            if node["NodeManagerAddress"] == address:
                return f"{address} ({node['NodeManagerHostname']})"
    return address


@contextlib.contextmanager
def ends_by_ray_are_deaths() -> Iterator[None]:
    """Let Tune take it as a trial's death if Ray ended its process for want of memory.

    Tune 2.60 expects a RayActorError, which OutOfMemoryError is not, and otherwise ends the whole sweep.
    """
    original = RayActorManager._actor_task_failed

    def task_failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(self, tracked_actor_task=tracked_actor_task, exception=exception)

    RayActorManager._actor_task_failed = task_failed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original  # type: ignore[method-assign]


class Deaths(FIFOScheduler):
    """Hears of a failed trial before the searcher does, which Tune tells no reason."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reasons: dict[str, str] = {}

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        """Keep the reason."""
        self._reasons[trial.trial_id] = why_it_died(trial)

    def why(self, trial_id: str) -> str:
        """Return why a trial's process died; the reason is forgotten."""
        return self._reasons.pop(trial_id, "its process died")

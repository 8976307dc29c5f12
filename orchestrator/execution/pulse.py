"""How the driver hears of its cells' progress: an actor on its node, and a thread in each attempt's process.

The thread passes the process's beats (trainables/heartbeat.py) on to the actor, at most one message a second,
whatever the number of beats. The answer says whether attempts are asked to stop.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.execution.beats import Beats
from orchestrator.execution.memory import oom_kills
from orchestrator.execution.progress import Progress
from orchestrator.execution.watchdog import Process, Sign, Watchdog
from orchestrator.execution.watching import ENDING_SECONDS, Waiting, Watch
from orchestrator.machines.nodes import ask, live_nodes
from trainables.heartbeat import listening

SENDING_SECONDS, ASKING_SECONDS = 1.0, 3.0
"""Between two messages of a process: while it advances, and while it only asks whether it shall stop."""

ANSWER_SECONDS = 10.0


class Pulse:
    """The actor that takes signs of life until the driver asks for them."""

    def __init__(self) -> None:
        self._latest: dict[Process, Sign] = {}
        self._stopping = False

    def take(self, sign: Sign) -> bool:
        """Take a sign of life and return whether attempts are asked to stop."""
        self._latest[sign.process] = sign
        return self._stopping

    def read(self) -> list[Sign]:
        """Return the newest sign of each process that gave any since the last call."""
        signs = list(self._latest.values())
        self._latest.clear()
        return signs

    def stop(self) -> None:
        """Ask all attempts, from now on, to stop at the end of the epoch that they are in."""
        self._stopping = True


def start_pulse() -> str:
    """Start the actor on this node, for as long as this driver lives, and return its name."""
    name = f"pulse-{secrets.token_hex(8)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Pulse)
    _KEPT[name] = actor.options(name=name, scheduling_strategy=here).remote()
    return name


def end_pulse(name: str) -> None:
    """End the actor."""
    with contextlib.suppress(RayError):
        ray.kill(_KEPT.pop(name))


def read_signs(name: str) -> list[Sign] | None:
    """Return the signs of life since the last call, None if the actor does not answer."""
    try:
        return list(ray.get(_KEPT[name].read.remote(), timeout=ANSWER_SECONDS))
    except RayError:
        return None


def ask_to_stop(name: str) -> None:
    """Ask all attempts to stop at the end of the epoch that they are in, if the actor answers."""
    with contextlib.suppress(RayError):
        ray.get(_KEPT[name].stop.remote(), timeout=ANSWER_SECONDS)


_KEPT: dict[str, Any] = {}
"""This process's actors: one ends when nobody holds its handle."""


@contextlib.contextmanager
def cells_watched(dog: Watchdog, progress: Progress) -> Iterator[str]:
    """Watch, until the end of the block, over the cells of a sweep; give the name of the pulse."""
    pulse = start_pulse()
    try:
        with Watch(dog, progress, lambda: read_signs(pulse), end_everywhere, cells_waiting).running():
            yield pulse
    finally:
        end_pulse(pulse)


def end_everywhere(processes: Sequence[Process]) -> None:
    """End processes, each on its own node, whatever state they are in."""
    hosts = {process.node for process in processes}
    nodes = [node for node in live_nodes() if node.id in hosts]  # Ray ends what ran on others
    ask(nodes, end_processes, processes, seconds=ENDING_SECONDS)


def free_workers(signs: Sequence[Sign]) -> None:
    """Give back what the workers of a group had reserved, after the process that looked after them died.

    Ray Train leaves it to an actor that asks the dashboard, and a local Ray has none.
    """
    for group in {sign.process.reserved for sign in signs if sign.process.rank is not None} - {""}:
        with contextlib.suppress(RayError):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def kernel_ended(signs: Sequence[Sign]) -> bool:
    """Return whether, where these processes ran, the kernel has since ended some for want of memory."""
    if not signs:
        return False
    before: dict[str, int] = {}
    for sign in signs:  # one that came after the kernel's deed has counted it already
        node = sign.process.node
        before[node] = min(sign.oom_kills, before.get(node, sign.oom_kills))
    nodes = [node for node in live_nodes() if node.id in before]
    now = ask(nodes, oom_kills, seconds=ANSWER_SECONDS)
    return any(isinstance(count, int) and count > before[node] for node, count in now.items())


def cells_waiting() -> Waiting:
    """Return what waits for resources: Tune, and Ray Train for its workers, reserve them for each cell."""
    try:
        groups = ray.util.placement_group_table().values()
        pending = [group for group in groups if group["state"] in ("PENDING", "RESCHEDULING")]
        if not pending:
            return Waiting()
        free, there = ray.available_resources(), ray.cluster_resources()
    except RayError:
        return Waiting()
    bundles = [{kind: n for kind, n in bundle.items() if n} for bundle in pending[0]["bundles"].values()]
    kinds = [kind for kind in ("GPU", "CPU") if any(kind in bundle for bundle in bundles)]
    short = [kind for kind in kinds if sum(each.get(kind, 0) for each in bundles) > free.get(kind, 0)]
    needs = [" and ".join(_amount(kind, each[kind]) for kind in kinds if kind in each) for each in bundles]
    alike = needs[0] if len(needs) == 1 else f"{len(needs)} x {needs[0]}"
    return Waiting(
        len(pending),
        " and ".join(f"{kind}s" for kind in short or kinds),
        alike if len(set(needs)) == 1 else ", ".join(needs),
        " and ".join(f"{_amount(kind, there.get(kind, 0))} ({free.get(kind, 0):g} free)" for kind in kinds),
    )


def _amount(kind: str, amount: float) -> str:
    return f"{amount:g} {kind}{'s' if amount > 1 else ''}"


class Sender:
    """Passes a process's beats on, and the answer if it asks to stop."""

    def __init__(self, pulse: str, process: Process, asked: Callable[[], None]) -> None:
        """Call `asked` for each answer that asks to stop, from the sending thread."""
        self._pulse, self._asked = pulse, asked
        self.beats = Beats(process)
        self._over = threading.Event()

    def run(self) -> None:
        """Send until the end, from a thread of its own."""
        sent, quiet = -1, 0.0
        while True:
            beats = self.beats.count
            if beats != sent or quiet >= ASKING_SECONDS:
                self._send(self.beats.sign())
                sent, quiet = beats, 0.0
            if self._over.wait(SENDING_SECONDS):
                return
            quiet += SENDING_SECONDS

    def end(self) -> None:
        """Send nothing more."""
        self._over.set()

    def _send(self, sign: Sign) -> None:
        # The actor may restart, or the driver end: the attempt goes on without, and this thread with it.
        with contextlib.suppress(Exception):
            if ray.get(ray.get_actor(self._pulse).take.remote(sign), timeout=ANSWER_SECONDS):
                self._asked()


@contextlib.contextmanager
def beating(
    pulse: str,
    trial: str,
    rank: int | None = None,
    asked: Callable[[], None] = lambda: None,
    *,
    guards: bool = False,
) -> Iterator[None]:
    """Send this process's beats to a pulse; call `asked`, from a thread, when the driver asks to stop."""
    pid, context = os.getpid(), ray.get_runtime_context()
    group = context.get_placement_group_id() or ""
    host, node = socket.gethostname(), context.get_node_id()
    process = Process(trial, rank, guards, pid, start_of(pid), node, host, group)
    sender = Sender(pulse, process, asked)
    threading.Thread(target=sender.run, name="heartbeat", daemon=True).start()
    try:
        with listening(sender.beats.beat):
            yield
    finally:
        sender.end()


def start_of(pid: int) -> str:
    """Return when a process of this machine began, in its system's words; "" if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    if Path("/proc/self").exists():
        return ""
    return subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()


def end_processes(processes: Sequence[Process]) -> None:
    """End those of the processes that run on this node and are still the ones that they were."""
    node = ray.get_runtime_context().get_node_id()
    for process in processes:
        if process.node == node and start_of(process.pid) == process.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

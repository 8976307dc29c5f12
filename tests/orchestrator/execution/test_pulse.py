"""The channel between attempts and their driver, on a real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import ray

from orchestrator.execution import pulse as module
from orchestrator.execution.pulse import (
    ask_to_stop,
    beating,
    end_processes,
    read_signs,
    start_of,
    start_pulse,
)
from orchestrator.execution.tune import ray_started
from orchestrator.execution.watchdog import Process, Sign
from trainables.heartbeat import beat

PATIENCE = 60


@pytest.fixture(scope="module")
def pulse() -> Iterator[str]:
    with ray_started(None):
        name = start_pulse()
        yield name
        module.end_pulse(name)


def until(found: Callable[[], object]) -> object:
    limit = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return value


def signs_of(pulse: str, trial: str) -> list[Sign]:
    return [sign for sign in read_signs(pulse) or [] if sign.process.trial == trial]


def test_beats_reach_the_driver_and_its_wish_to_stop_reaches_the_attempt(pulse: str) -> None:
    asked = threading.Event()
    with beating(pulse, "a", 1, asked.set):
        for _ in range(1000):
            beat("training")
        (sign,) = until(lambda: [s for s in signs_of(pulse, "a") if s.beats == 1000])  # type: ignore[misc]
        assert (sign.phase, sign.process.rank, sign.process.pid) == ("training", 1, os.getpid())
        assert sign.process.node == ray.get_runtime_context().get_node_id()
        assert not asked.is_set()
        assert until(lambda: signs_of(pulse, "a"))  # it says that it is there, though it does not advance
        ask_to_stop(pulse)
        assert asked.wait(PATIENCE)
    until(lambda: not [each for each in threading.enumerate() if each.name == "heartbeat"])


def test_an_actor_that_dies_comes_back_and_hears_the_next_beat(pulse: str) -> None:
    with beating(pulse, "b"):
        until(lambda: signs_of(pulse, "b"))
        ray.kill(ray.get_actor(pulse), no_restart=False)
        beat("scoring")
        assert until(lambda: signs_of(pulse, "b"))


def test_only_the_process_that_was_meant_is_ended(pulse: str) -> None:
    node = ray.get_runtime_context().get_node_id()
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_of(sleeper.pid)
    assert started
    assert started != start_of(os.getpid())
    meant = {"pid": sleeper.pid, "started": started, "node": node}
    end_processes([Process("c", **{**meant, "started": "1"}), Process("c", **{**meant, "node": "another"})])
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.2)
    os.kill(sleeper.pid, signal.SIGSTOP)
    end_processes([Process("c", **meant)])
    assert sleeper.wait(PATIENCE) == -signal.SIGKILL
    assert start_of(sleeper.pid) == ""

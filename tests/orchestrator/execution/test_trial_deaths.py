"""Why a process of Ray's died, in words: real processes that end in several ways."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
import ray
from ray.exceptions import RayActorError

from orchestrator.execution.trial_deaths import in_words
from orchestrator.execution.tune import ray_started


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_started(None):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os._exit(3), "killed from outside"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed from outside"),
        (lambda: exec("raise SystemExit(4)"), "exit code 4"),
    ],
)
def test_a_process_that_died_is_named_with_its_machine(local_ray: None, end: object, said: str) -> None:
    class Trial:
        def pid(self) -> int:
            return os.getpid()

        def end(self) -> None:
            end()  # type: ignore[operator]

    trial = ray.remote(num_cpus=0)(Trial).remote()
    pid = ray.get(trial.pid.remote())
    with pytest.raises(RayActorError) as caught:
        ray.get(trial.end.remote())
    words = in_words(caught.value)
    assert words.startswith(f"its process {pid} died on ")
    assert f"({socket.gethostname()})" in words
    assert said in words


def test_anything_else_is_given_by_its_first_line() -> None:
    assert in_words(ValueError("a\nb")) == "its process died (a)"

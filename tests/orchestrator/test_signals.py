"""Signals and deaths, sent to real sweeps: a sentence, the exit code, nothing left, and nothing lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.sweep import main
from tests.processes import Command, await_
from tests.sweeps import assert_equal_sweeps

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

TWO = ["--holdouts", "3", "--seeds", "2", "--methods", "classification", "--name", "mine"]
LONG = [*TWO, "--set", "epochs=2000", "checkpoint_seconds=0.5"]
"""Two cells of minutes each."""


def storage_of(folder: Path) -> list[object]:
    return ["--storage", folder / "runs"]


def checkpointed(folder: Path) -> bool:
    return any((folder / "runs").glob("mine/cells/*/checkpoint/*.pt"))


def statuses(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "runs" / "mlflow.db") as records:
        return {status for (status,) in records.execute("select status from runs")}


def endings(folder: Path) -> set[str]:
    from orchestrator.ledger.ledger import Ledger

    ledger = Ledger(str(folder / "runs"), "mine")
    keys = [path.name for path in (folder / "runs/mine/cells").iterdir()]
    return {record["ending"] for records in ledger.read_attempts(keys).values() for record in records}


def assert_nothing_left(command: Command, temporary: Path) -> None:
    assert command.processes() == {}
    assert list(temporary.glob("sweep-*")) == []


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for Ray's files, whose path is short enough for its sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_sigterm_ends_a_sweep_in_good_order_and_nothing_is_lost(tmp_path: Path) -> None:
    words = [*TWO, "--executor", "inline", *storage_of(tmp_path), "--set", "epochs=20", "ap_window=2"]
    with Command(*words, "checkpoint_seconds=0.1") as command:
        command.wait_for(lambda: checkpointed(tmp_path))
        command.send(signal.SIGTERM)
        code, _, said = command.end()
        assert command.processes() == {}
    assert code == 143, said
    resume = f"-m orchestrator.sweep --resume --name mine --storage {tmp_path}/runs --executor inline"
    last = said.splitlines()[-1]
    assert last.startswith("Stopped. Nothing that was done is lost; go on with: ")
    assert last.endswith(resume)
    assert "Traceback" not in said
    assert statuses(tmp_path) == {"KILLED"}
    assert endings(tmp_path) == {"interrupted"}
    assert main([str(word) for word in ("--resume", *resume.split()[3:])]) == 0
    assert statuses(tmp_path) == {"FINISHED"}
    words[words.index("--storage") + 1] = tmp_path / "undisturbed"
    assert main([str(word) for word in words]) == 0
    assert_equal_sweeps(tmp_path / "runs/mine", tmp_path / "undisturbed/mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("moment", [0.2, 0.5, 1.0, 2.0, 3.0, 5.0])
def test_a_signal_at_any_time_is_one_sentence(tmp_path: Path, name: str, moment: float) -> None:
    import time

    with Command(*LONG, "--executor", "inline", *storage_of(tmp_path)) as command:
        await_(lambda: os.path.exists(f"/proc/{command.pid}") and _handles(command.pid, signal.Signals[name]))
        time.sleep(moment)
        command.send(signal.Signals[name])
        code, _, said = command.end()
        assert command.processes() == {}
    assert code == 128 + signal.Signals[name], said
    assert "Traceback" not in said
    assert "Stopped" in said.splitlines()[-1]


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("orchestrator.report", ["mine"]),
        ("orchestrator.score", ["mine", "--detectors", "energy"]),
        ("orchestrator.doctor", []),
    ],
)
def test_other_commands_end_with_a_sentence_too(tmp_path: Path, module: str, words: list[str]) -> None:
    quick = [*TWO, "--executor", "inline", *storage_of(tmp_path), "--set", "epochs=1"]
    assert main([str(word) for word in quick]) == 0
    with Command(*words, *storage_of(tmp_path), module=module) as command:
        await_(lambda: _handles(command.pid, signal.SIGTERM))
        command.send(signal.SIGTERM)
        code, _, said = command.end()
    assert code == 143, said
    assert len(said.splitlines()) == 1
    assert said.startswith("Stopped")


@pytest.mark.slow
def test_sigterm_ends_ray_with_its_sweep(tmp_path: Path, temporary: Path) -> None:
    with Command(*LONG, *storage_of(tmp_path), RAY_TMPDIR=str(temporary)) as command:
        command.wait_for(lambda: checkpointed(tmp_path))
        command.send(signal.SIGTERM)
        code, _, said = command.end()
        assert_nothing_left(command, temporary)
    assert code == 143, said
    assert said.splitlines()[-1].startswith("Stopped. Nothing that was done is lost; go on with: ")
    assert "Traceback" not in said
    assert "SIGABRT" not in said
    assert "RUNNING" not in statuses(tmp_path)
    assert endings(tmp_path) == {"interrupted"}


def killed(command: Command, folder: Path, temporary: Path, name: str) -> str:
    """Kill one of Ray's processes; return what the command says before it ends."""
    command.wait_for(lambda: checkpointed(folder))
    os.kill(command.driver() if name == "driver" else command.named(name), signal.SIGKILL)
    code, _, said = command.end()
    assert_nothing_left(command, temporary)
    assert code == 1, said
    assert "RUNNING" not in statuses(folder)
    (sentence,) = [line for line in said.splitlines() if "cells done" not in line]
    assert "Nothing that was done is lost; go on with: " in sentence
    assert "-m orchestrator.sweep --resume" in sentence
    return sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server", "driver"])
def test_the_death_of_ray_or_the_driver_is_one_sentence(tmp_path: Path, temporary: Path, name: str) -> None:
    with Command(*LONG, *storage_of(tmp_path), RAY_TMPDIR=str(temporary)) as command:
        sentence = killed(command, tmp_path, temporary, name)
    log = tmp_path / "runs" / "mine.ray.log"
    if name == "driver":
        assert sentence.startswith("The process that does the work was killed by SIGKILL")
    else:
        assert sentence.startswith(f"Ray died while the sweep ran (its {name} was killed by SIGKILL)")
        assert f"its output is in {log}." in sentence
        assert "raylet" in log.read_text()


EXITS = '''
"""Detectors that end the process, or try to."""

import os
import sys

from trainables.detectors import Detector


class Exits(Detector):
    name = "exits"
    needs = "logits"

    def score(self, logits):
        sys.exit(3)


class Ends(Detector):
    name = "ends"
    needs = "logits"

    def score(self, logits):
        os._exit(5)
'''


def with_plugin(folder: Path, detector: str) -> list[object]:
    (folder / "exits.py").write_text(EXITS)
    words = ["--holdouts", "3", "8", "--seeds", "1", "--methods", "classification", "--name", "mine"]
    words += ["--plugin", folder / "exits.py", "--detectors", detector]
    return [*words, *storage_of(folder), "--set", "epochs=1", "retries=1"]


def test_a_plug_in_that_exits_fails_its_cells_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = with_plugin(tmp_path, "exits")
    assert main([str(word) for word in (*words, "--executor", "inline")]) == 1
    out = capsys.readouterr().out
    assert "2 cells failed on every attempt" in out
    assert "the detector exits failed in line" in out
    assert "SystemExit: 3" in out


@pytest.mark.slow
def test_a_plug_in_that_ends_the_process_is_named(tmp_path: Path) -> None:
    """On Ray the other cells go on; inline nothing can, and the sentence names the cell."""
    words = with_plugin(tmp_path, "ends")
    with Command(*words, "--executor", "inline") as command:
        code, _, said = command.end()
    assert code == 1
    assert "ended with exit code 5 in the cell classification/" in said
    with Command("--resume", "--name", "mine", *storage_of(tmp_path)) as command:
        code, out, said = command.end()
    assert code == 1
    assert "2 cells failed on every attempt" in out
    assert "its process" in out
    assert "Traceback" not in said
    assert "did not complete" not in said


@pytest.mark.slow
def test_a_trial_that_is_killed_is_said_with_its_machine_and_nothing_else(
    tmp_path: Path, temporary: Path
) -> None:
    words = [*TWO, "--set", "epochs=400", "checkpoint_seconds=0.5", *storage_of(tmp_path)]
    with Command(*words, RAY_TMPDIR=str(temporary)) as command:
        command.wait_for(lambda: checkpointed(tmp_path))
        (first, *_) = [pid for pid, line in command.processes().items() if line[0].startswith("ray::Impl")]
        os.kill(first, signal.SIGKILL)
        code, _, said = command.end()
        assert_nothing_left(command, temporary)
    assert code == 0, said
    assert f"its process {first} died on" in said
    assert "ERROR" not in said
    assert "Traceback" not in said

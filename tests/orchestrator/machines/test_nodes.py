"""The nodes of a live Ray: who is there, what each answers, and whether anybody listens at an address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeps import ROOT

pytest.importorskip("ray", reason="Ray is not installed on this system")

from orchestrator.machines.nodes import Node, Unreachable, ask, check_listens, reason_of
from orchestrator.machines.probe import MachineReport, ProbeRequest, examine


def test_every_node_answers_even_one_without_cpus(nodes: list[Node], tmp_path: Path) -> None:
    assert [node.is_head for node in nodes] == [True, False]
    answers = ask(nodes, examine, ProbeRequest(data=str(tmp_path / "nothing")), seconds=120)
    assert answers.keys() == {node.id for node in nodes}
    for answer in answers.values():
        assert isinstance(answer, MachineReport)
        assert answer.data
        assert "nothing is not there" in answer.data.error


def test_an_error_on_a_node_is_its_answer(nodes: list[Node]) -> None:
    answers = ask(nodes, json.loads, "seven", seconds=120)
    assert len(answers) == 2
    for answer in answers.values():
        assert isinstance(answer, Exception)
        assert reason_of(answer).endswith("JSONDecodeError: Expecting value: line 1 column 1 (char 0)")


def test_nobody_listening_is_found_out_at_once() -> None:
    with pytest.raises(Unreachable, match="refused"):
        check_listens("127.0.0.1:9")


def test_auto_is_the_cluster_started_last_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(Unreachable, match="none was started on this machine"):
        check_listens("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:9\n")  # and has been killed since
    with pytest.raises(Unreachable, match="refused"):
        check_listens("auto")


def test_ray_leaves_the_address_where_auto_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private.utils import write_ray_address  # what `ray start` calls

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    write_ray_address("127.0.0.1:9")
    with pytest.raises(Unreachable, match="refused"):
        check_listens("auto")


def test_a_node_without_the_project_is_told_apart() -> None:
    error = RuntimeError("Traceback ...\nModuleNotFoundError: No module named 'orchestrator'")
    assert reason_of(error).startswith("this project is not installed there")
    assert reason_of(TimeoutError()) == "TimeoutError"


def test_a_sweep_without_an_address_does_not_join_the_machine_s_cluster(nodes: list[Node]) -> None:
    code = """
import ray
from orchestrator.execution.tune import ray_started
with ray_started(None):
    print(len(ray.nodes()))
"""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.stdout.split() == ["1"], done.stdout + done.stderr  # the other one has two nodes

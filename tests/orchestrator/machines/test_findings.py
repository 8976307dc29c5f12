"""Each thing that can be wrong with a machine is named, and a machine with nothing wrong is summed up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.machines.file_systems import Disk
from orchestrator.machines.findings import Finding, machine_findings, node_findings
from orchestrator.machines.probe import DataSize, Gpus, MachineReport
from orchestrator.machines.storage_probe import StorageAnswer


@pytest.fixture(scope="module")
def sound(report: MachineReport) -> MachineReport:
    """The report of a node on which nothing is wrong, and which could read some data."""
    return replace(report, token_mode="token", open_files=65536, data=DataSize(3, 12))


def problems(findings: list[Finding]) -> str:
    """What is wrong, in one text."""
    return "\n".join(finding.text for finding in findings if not finding.ok)


def test_a_node_like_this_machine_is_summed_up(sound: MachineReport) -> None:
    (finding,) = node_findings("n", sound, sound, {"CPU": 2}, {})
    assert finding.ok
    assert finding.text.startswith(f"n: Python {sound.python}, ray ")


def test_a_package_that_is_not_installed_is_named(report: MachineReport) -> None:
    absent = replace(report, versions={**report.versions, "ray": ""})
    assert "ray is not installed" in problems(machine_findings("here", absent, {}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": "3.9.1"}, "Python is 3.9.1"),
        ({"sources": "0" * 12}, "this project's files differ"),
        ({"token_mode": ""}, "whoever reaches its ports can run code there"),
        ({"open_files": 1024}, "ulimit -n 65536"),
        ({"storage": StorageAnswer(shared=False)}, "it is not shared"),
        (
            {"storage": StorageAnswer(shared=False, error="AccessDenied")},
            "the storage cannot be written (AccessDenied)",
        ),
        ({"data": DataSize(0, 0, "/data is not there")}, "the data cannot be read (/data is not there)"),
        ({"data": DataSize(7, 12)}, "the data is not this machine's"),
        (
            {"disks": (Disk("/tmp", "Ray's files", 10**9, 10**11),)},
            "the disk of /tmp, for Ray's files, is full",
        ),
        ({"disks": (Disk("/tmp", "Ray's files", 10**11, 10**13),)}, "is full"),
        ({"gpus": Gpus(("A10G", "A10G"), "470.1", 0)}, "PyTorch can use 0 of 2 GPUs"),
    ],
)
def test_what_is_wrong_with_a_node_is_named(sound: MachineReport, changes: dict[str, Any], said: str) -> None:
    (finding,) = node_findings("10.0.0.2 (n)", replace(sound, **changes), sound, {"CPU": 2}, {})
    assert not finding.ok
    assert finding.text.startswith("10.0.0.2 (n): ")
    assert said in finding.text


def test_gpus_that_ray_counts_and_the_driver_does_not_have_are_named(sound: MachineReport) -> None:
    assert "Ray counts 1 GPUs and the driver 0" in problems(
        node_findings("n", sound, sound, {"GPU": 1.0}, {})
    )

"""What a sweep demands of a cluster's nodes before it starts, on a Ray of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed on this system")

from orchestrator.machines.nodes import Node
from orchestrator.machines.preflight import check_nodes
from orchestrator.planning.plugins import Plugin, load
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from tests.plugins import BENCHMARK, forget
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake


@pytest.fixture(scope="module")
def digits_request(tmp_path_factory: pytest.TempPathFactory) -> DataRequest:
    """The digits, prepared in a folder of the tests."""
    specification = draft(Request()).complete("cpu", tuple("0123456789"))
    cache = str(tmp_path_factory.mktemp("cache"))
    return data_request(specification, "./data", cache=cache, download=False)


def test_nodes_that_read_and_write_let_the_sweep_start(
    nodes: list[Node], home: Path, digits_request: DataRequest
) -> None:
    fingerprint = prepare(digits_request).fingerprint
    check_nodes(str(home / "storage"), digits_request, fingerprint)
    assert list((home / "storage").iterdir()) == [], "the probe is removed"


def test_data_that_a_node_cannot_read_is_refused_in_one_sentence(
    nodes: list[Node], home: Path, digits_request: DataRequest
) -> None:
    with pytest.raises(
        Mistake, match=r"^The data cannot be read on .*\(.*\(.*\).*\): it has to stand"
    ) as raised:
        check_nodes(str(home), digits_request, "0" * 64)
    assert "\n" not in str(raised.value)


def test_data_that_a_plug_in_reads_is_prepared_on_every_node(
    nodes: list[Node], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes have neither the plug-in's file nor the data that this process has prepared."""
    forget(monkeypatch)
    plugins = (Plugin("mine.py", BENCHMARK),)
    load(plugins)
    specification = draft(Request("shades")).complete("cpu", ("a", "b", "c", "d"))
    here, there = (
        data_request(specification, "none", cache=str(home / name), download=False)
        for name in ("here", "there")
    )
    fingerprint = prepare(here).fingerprint
    with pytest.raises(Mistake, match="There is no reader 'shades'"):
        check_nodes(str(home / "storage"), there, fingerprint)
    check_nodes(str(home / "storage"), there, fingerprint, plugins)
    (folder,) = (home / "there").glob(f"shades-*-{fingerprint[:16]}")
    assert (folder / "train.arrow").stat().st_size > 0


def test_a_storage_that_cannot_be_written_is_refused(
    nodes: list[Node], home: Path, digits_request: DataRequest
) -> None:
    (home / "file").write_text("")
    with pytest.raises(Mistake, match="cannot be written"):
        check_nodes(str(home / "file"), digits_request, "")

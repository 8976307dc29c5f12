"""Records of attempts: one a number, whatever happens at once, and each closed by somebody."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.ledger import storage
from orchestrator.ledger.attempts import Usage
from orchestrator.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path), "mine")


def record_file(ledger: Ledger, number: int) -> Path:
    return Path(ledger.storage, ledger.name, "cells", "a", "attempts", f"{number}.json")


def read(ledger: Ledger) -> list[dict]:
    return ledger.read_attempts(["a", "never begun"]).get("a", [])


def test_an_attempt_says_where_it_runs_and_how_it_ended(ledger: Ledger) -> None:
    before = time.time()
    number = ledger.begin("a", {}, device="H100", usage=Usage(cpus=4, gpus=0.5))
    (record,) = read(ledger)
    assert before <= record["started"] <= time.time()
    assert (record["host"], record["process"]) == (socket.gethostname(), os.getpid())
    assert (record["device"], record["cpus"], record["gpus"]) == ("H100", 4, 0.5)
    assert (record["ending"], record["ended"], record["error"]) == ("running", None, None)
    ledger.write_checkpoint("a", 3, number, b"state")
    ledger.end_attempt("a", number, "failed", "no room", resumed=1)
    (record,) = read(ledger)
    assert (record["ending"], record["error"]) == ("failed", "no room")
    assert (record["resumed_after_epoch"], record["epoch"]) == (1, 3)
    assert record["gpu_seconds"] == 0.5 * (record["ended"] - record["started"])


@pytest.mark.parametrize("links", [True, False], ids=["", "no hard links"])
def test_attempts_that_begin_together_have_different_numbers(
    ledger: Ledger, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(storage.os, "link", refuse)
    together, found = threading.Barrier(8), []

    def begin() -> None:
        together.wait()
        found.extend(ledger.begin("a", {}) for _ in range(5))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 41))
    assert [record["attempt"] for record in read(ledger)] == list(range(1, 41))
    assert ledger.read_cell("a")["attempts"] == 40
    assert not list(Path(ledger.storage).rglob("*.part"))


def test_what_a_dead_process_left_running_is_closed_at_its_last_sign_of_life(ledger: Ledger) -> None:
    first = ledger.begin("a", {}, usage=Usage(gpus=2))
    ledger.write_checkpoint("a", 4, first, b"state")
    started = read(ledger)[0]["started"]
    checkpoint = Path(ledger.storage, "mine", "cells", "a", "checkpoint", "4-1.pt")
    os.utime(checkpoint, (started + 60, started + 60))
    ledger.begin("a", {})
    lost, running = read(ledger)
    assert (lost["ending"], lost["epoch"], running["ending"]) == ("lost", 4, "running")
    assert lost["ended"] == pytest.approx(started + 60)
    assert lost["gpu_seconds"] == pytest.approx(120)
    ledger.close_lost(["a", "never begun"])
    assert [record["ending"] for record in read(ledger)] == ["lost", "lost"]
    assert read(ledger)[1]["ended"] == read(ledger)[1]["started"]


def test_an_attempt_that_died_after_its_result_is_done(ledger: Ledger) -> None:
    number = ledger.begin("a", {})
    finished = time.time() + 5
    about = {"number": number, "finished_at": finished}
    ledger.finish("a", number, {"values": {"epochs": 7}}, about, scores=pa.table({"msp": [0.1]}))
    ledger.close_lost(["a"])
    (record,) = read(ledger)
    assert (record["ending"], record["ended"], record["epoch"]) == ("done", finished, 7)


def test_an_attempt_that_was_taken_for_dead_says_itself_how_it_ended_once(ledger: Ledger) -> None:
    ledger.begin("a", {})
    ledger.begin("a", {})
    ledger.end_attempt("a", 1, "superseded", "attempt 2 has taken over")
    ledger.end_attempt("a", 1, "failed", "something else")
    assert [record["ending"] for record in read(ledger)] == ["superseded", "running"]


def test_a_clock_that_is_set_back_makes_no_negative_seconds(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.begin("a", {}, usage=Usage(gpus=1))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    ledger.end_attempt("a", 1, "failed")
    assert read(ledger)[0]["gpu_seconds"] == 0


def test_a_ledger_without_records_goes_on_counting(ledger: Ledger) -> None:
    cell = Path(ledger.storage, "mine", "cells", "a", "cell.json")
    cell.parent.mkdir(parents=True)
    cell.write_text(json.dumps({"attempts": 3}))
    assert read(ledger) == []
    assert ledger.begin("a", {}) == 4


def test_what_is_no_record_or_no_checkpoint_is_nobody_s(ledger: Ledger) -> None:
    number = ledger.begin("a", {})
    ledger.write_checkpoint("a", 2, number, b"state")
    folder = record_file(ledger, 1).parent
    for foreign in ("notes.txt", "x.json", "01.json", "2.json.swp", ".json"):
        (folder / foreign).write_text("{}")
        (folder.parent / "checkpoint" / foreign.replace("json", "pt")).write_text("")
    assert [record["attempt"] for record in read(ledger)] == [1]
    assert ledger.checkpoints("a") == ["2-1.pt"]
    assert ledger.begin("a", {}) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"attempt": 1, "started": "then"}'])
def test_a_record_that_is_not_whole_is_left_out_and_keeps_its_number(ledger: Ledger, content: str) -> None:
    ledger.begin("a", {})
    record_file(ledger, 1).write_text(content)
    assert read(ledger) == []
    ledger.end_attempt("a", 1, "failed")
    assert record_file(ledger, 1).read_text() == content
    assert ledger.begin("a", {}) == 2

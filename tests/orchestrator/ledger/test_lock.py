"""The lock: one driver a sweep, and a dead one keeps nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.ledger import lock
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from trainables.mistake import Mistake

HOLD = """
import sys, time
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
with hold(Ledger(sys.argv[1], "mine")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_bucket_that_cannot_be_reached_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Ledger("s3://nobody", "mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(Mistake, match=r"s3://nobody cannot be written \("), hold(nowhere):
        pass


def start_holder(storage: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(storage)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_a_second_driver_is_told_and_a_killed_one_s_lock_is_free_at_once(tmp_path: Path) -> None:
    process = start_holder(tmp_path)
    try:
        with pytest.raises(Mistake, match="is being run by"), hold(Ledger(str(tmp_path), "mine")):
            pass
        with hold(Ledger(str(tmp_path), "yours")):  # another sweep is free
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hold(Ledger(str(tmp_path), "mine")):
        pass


# An object store, played by a folder that does not know that it is on this machine


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A sweep on a store without locks of its own, and a faster beat."""
    monkeypatch.setattr(Ledger, "local_folder", None)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.02)
    (tmp_path / "mine").mkdir()
    return Ledger(str(tmp_path), "mine")


def write_lock(ledger: Ledger, **changes: object) -> None:
    """The lock of another machine's process 7."""
    fields = {"token": "theirs", "renewed": 1e9, "host": "elsewhere", "pid": 7, "machine": "another"}
    path = Path(ledger.storage, "mine", "lock.json")
    aside = path.with_suffix(".aside")
    aside.write_text(json.dumps({**fields, **changes}))
    aside.rename(path)


def token(ledger: Ledger) -> str:
    return json.loads(Path(ledger.storage, "mine", "lock.json").read_text())["token"]


@contextlib.contextmanager
def renewed(ledger: Ledger, patch: pytest.MonkeyPatch, clock: float, **changes: object) -> Iterator[None]:
    """Another machine's driver at work, whose clock is off by so many seconds."""
    write_lock(ledger, renewed=time.time() + clock, **changes)
    # It is watched until it is renewed, however long a busy machine takes for that.
    patch.setattr(lock, "WATCH_SECONDS", 60.0)
    patch.setattr(lock, "LOOKS", 1200)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.05):
            write_lock(ledger, renewed=time.time() + clock, **changes)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("clock", [-86400.0, 0.0, 86400.0])
def test_a_driver_at_work_keeps_its_lock_by_whatever_clock(
    bucket: Ledger, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    with (
        renewed(bucket, monkeypatch, clock),
        pytest.raises(Mistake, match="run by process 7 on elsewhere"),
        hold(bucket),
    ):
        pass
    assert token(bucket) == "theirs"


@pytest.mark.parametrize("clock", [-86400.0, 0.0, 86400.0])
def test_a_lock_that_nobody_renews_is_taken_over_by_whatever_clock(
    bucket: Ledger, clock: float, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(bucket, renewed=time.time() + clock)
    with hold(bucket):
        assert token(bucket) not in ("", "theirs")
    assert token(bucket) == ""
    said = capsys.readouterr().err
    assert said.startswith(
        "Waiting 0.3 s to see whether process 7 on elsewhere, which holds the sweep 'mine'"
    )
    assert said.count("\n") == 1


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_dead_process_of_this_machine_is_not_waited_for(
    bucket: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(bucket):
        of_this_machine = bucket.read_lock()
    write_lock(bucket, **{**of_this_machine, "pid": dead_process()})
    with hold(bucket):
        pass
    assert capsys.readouterr().err == ""


def test_a_process_of_a_machine_of_the_same_name_is_not_taken_for_dead(
    bucket: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    namesake = {"host": socket.gethostname(), "pid": dead_process()}
    with (
        renewed(bucket, monkeypatch, 0.0, **namesake),
        pytest.raises(Mistake, match="run by process"),
        hold(bucket),
    ):
        pass


def test_a_lock_that_is_released_while_it_is_watched_is_free_at_once(
    bucket: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WATCH_SECONDS", 30.0)
    monkeypatch.setattr(lock, "LOOKS", 600)
    write_lock(bucket)
    release = threading.Timer(0.1, write_lock, [bucket], {"token": "", "host": "", "pid": 0})
    release.start()
    began = time.monotonic()
    with hold(bucket):
        assert time.monotonic() - began < 5
    release.join()


@pytest.mark.parametrize("text", ["", "[]", '{"token": "", "renewed": 0.0, "host": "", "pid": 0}'])
def test_what_names_no_owner_is_free_at_once(
    bucket: Ledger, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(bucket.storage, "mine", "lock.json").write_text(text)
    with hold(bucket):
        pass
    assert capsys.readouterr().err == ""


def test_a_lock_of_the_former_version_is_watched_like_any_other(bucket: Ledger) -> None:
    former = {"token": "theirs", "renewed": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    path = Path(bucket.storage, "mine", "lock.json")
    path.write_text(json.dumps(former))
    with hold(bucket):
        assert token(bucket) != "theirs"


def be_taken_over(ledger: Ledger) -> None:
    """Works until it is interrupted, for another machine has the lock."""
    for _ in range(500):
        write_lock(ledger)
        time.sleep(0.01)
    pytest.fail("nothing interrupted the work")


@pytest.mark.parametrize("deaf", [False, True], ids=["", "begun with & by a script"])
def test_a_driver_whose_sweep_was_taken_over_stops_and_leaves_the_lock(bucket: Ledger, deaf: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if deaf else signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(Mistake, match="'mine' was taken over by process 7 on elsewhere"), hold(bucket):
            be_taken_over(bucket)
    finally:
        signal.signal(signal.SIGINT, before)
    assert token(bucket) == "theirs"


def test_work_that_stops_in_order_is_told_of_the_take_over_too(bucket: Ledger) -> None:
    stopping = contextlib.suppress(KeyboardInterrupt)
    with pytest.raises(Mistake, match="was taken over"), hold(bucket), stopping:
        be_taken_over(bucket)


def test_a_lock_that_changed_hands_since_the_last_beat_is_not_released(
    bucket: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 60.0)
    with hold(bucket):
        write_lock(bucket)
    assert token(bucket) == "theirs"


def work_until_ctrl_c(ledger: Ledger) -> None:
    """Is interrupted by a person, once the lock was renewed."""
    first, limit = ledger.read_lock(), time.monotonic() + 5
    while ledger.read_lock() == first:
        assert time.monotonic() < limit
        time.sleep(0.01)
    raise KeyboardInterrupt


def test_the_lock_is_renewed_and_ctrl_c_is_still_ctrl_c(bucket: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt), hold(bucket):
        work_until_ctrl_c(bucket)
    assert token(bucket) == ""

"""The lock: one driver a sweep, a dead one keeps nothing, and none writes that has lost it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.ledger import lock
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import Hold, LockLost, hold
from orchestrator.ledger.objects import Objects, Version, knows_conditions
from orchestrator.ledger.owner import owner_of
from trainables.mistake import Mistake

HOLD = """
import sys, time
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
with hold(Ledger(sys.argv[1], "mine")):
    print("held", flush=True)
    time.sleep(60)
"""
LEASE = 0.6


def test_a_bucket_that_cannot_be_reached_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Ledger("s3://nobody", "mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(Mistake, match=r"s3://nobody cannot be written \("), hold(nowhere):
        pass


def start_holder(storage: object, script: str = HOLD) -> subprocess.Popen:
    line = [sys.executable, "-c", script, str(storage)]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


# Folders


def test_a_second_driver_is_told_and_a_killed_one_s_lock_is_free_at_once(tmp_path: Path) -> None:
    mine = Ledger(str(tmp_path), "mine")
    process = start_holder(tmp_path)
    try:
        said = f"is being run by process {process.pid} on {socket.gethostname()}, since "
        with pytest.raises(Mistake, match=said), hold(mine):
            pass
        found = owner_of(mine)
        assert found is not None
        assert found.process == process.pid
        with hold(Ledger(str(tmp_path), "yours")):  # another sweep is free
            assert owner_of(Ledger(str(tmp_path), "nobody's")) is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert owner_of(mine) is None
    with hold(mine):
        pass


def test_who_asks_who_holds_a_folder_does_not_keep_a_driver_from_it(tmp_path: Path) -> None:
    mine, over = Ledger(str(tmp_path), "mine"), threading.Event()
    with hold(mine):
        pass

    def ask() -> None:
        while not over.is_set():
            owner_of(mine)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            with hold(mine):
                pass
    finally:
        over.set()
        asking.join()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(Mistake, match=r"does not lock files .*NFS"), hold(Ledger(str(tmp_path), "mine")):
        pass


def test_nothing_is_written_once_the_lock_s_file_was_replaced(tmp_path: Path) -> None:
    mine = Ledger(str(tmp_path), "mine")

    def write_beside_another(held: Hold) -> None:
        held.ledger.write_sweep({"first": 1})
        (tmp_path / "mine" / "lock").unlink()
        with hold(mine):  # another driver, which now holds what is there
            with pytest.raises(LockLost):
                held.check()
            held.ledger.write_sweep({"second": 2})

    with pytest.raises(Mistake, match="was removed or replaced"), hold(mine) as held:
        write_beside_another(held)
    assert mine.read_sweep() == {"first": 1}


# Object stores


@pytest.fixture
def bucket(s3: str) -> Ledger:
    return Ledger(s3, "mine")


def write_lock(ledger: Ledger, **changes: object) -> None:
    """The lock of another machine's process 7, whatever was there before."""
    fields = {"token": "theirs", "renewed": 1e9, "host": "elsewhere", "pid": 7, "machine": "another"}
    ledger.write_lock({**fields, **changes})


def token(ledger: Ledger) -> str:
    return str(ledger.read_lock()["token"])


@contextlib.contextmanager
def renewed(ledger: Ledger, clock: float, **changes: object) -> Iterator[None]:
    """Another machine's driver at work, whose clock is off by so many seconds."""
    write_lock(ledger, renewed=time.time() + clock, **changes)
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
def test_a_driver_at_work_keeps_its_lock_by_whatever_clock(bucket: Ledger, clock: float) -> None:
    with (
        renewed(bucket, clock),
        pytest.raises(Mistake, match="run by process 7 on elsewhere"),
        # It is watched until it is renewed, however long a busy machine takes for that.
        hold(bucket, lease=60),
    ):
        pass
    assert token(bucket) == "theirs"


@pytest.mark.parametrize("clock", [-86400.0, 0.0, 86400.0])
def test_a_lock_that_nobody_renews_is_taken_over_by_whatever_clock(
    bucket: Ledger, clock: float, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(bucket, renewed=time.time() + clock)
    began = time.monotonic()
    with hold(bucket, lease=LEASE):
        assert time.monotonic() - began >= LEASE
        assert token(bucket) not in ("", "theirs")
    assert token(bucket) == ""
    said = capsys.readouterr().err
    assert said.startswith(
        "Waiting 0.6 s to see whether process 7 on elsewhere, which holds the sweep 'mine'"
    )
    assert said.count("\n") == 1


def test_the_longer_of_two_leases_counts(bucket: Ledger) -> None:
    write_lock(bucket, lease=1.0)
    began = time.monotonic()
    with hold(bucket, lease=0.1):
        assert time.monotonic() - began >= 1.0


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_dead_process_of_this_machine_is_not_waited_for(
    bucket: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(bucket):
        of_this_machine = bucket.read_lock()
        found = owner_of(bucket)
        assert found is not None
        assert found.process == os.getpid()
    assert owner_of(bucket) is None
    write_lock(bucket, **{**of_this_machine, "pid": dead_process()})
    with hold(bucket):
        pass
    assert capsys.readouterr().err == ""


def test_a_process_of_a_machine_of_the_same_name_is_not_taken_for_dead(bucket: Ledger) -> None:
    namesake = {"host": socket.gethostname(), "pid": dead_process()}
    with (
        renewed(bucket, 0.0, **namesake),
        pytest.raises(Mistake, match="run by process"),
        hold(bucket, lease=60),
    ):
        pass


def test_a_lock_that_is_released_while_it_is_watched_is_free_at_once(bucket: Ledger) -> None:
    write_lock(bucket)
    release = threading.Timer(0.1, write_lock, [bucket], {"token": "", "host": "", "pid": 0})
    release.start()
    began = time.monotonic()
    with hold(bucket):
        assert time.monotonic() - began < 30
    release.join()


@pytest.mark.parametrize("text", ["", "[]", '{"token": "", "renewed": 0.0, "host": "", "pid": 0}'])
def test_what_names_no_owner_is_free_at_once(
    bucket: Ledger, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket._write(text.encode(), "lock.json")
    with hold(bucket):
        pass
    assert capsys.readouterr().err == ""


def test_a_lock_of_the_former_version_is_watched_like_any_other(bucket: Ledger) -> None:
    write_lock(bucket, renewed=time.time(), host=socket.gethostname(), pid=os.getpid())
    with hold(bucket, lease=LEASE):
        assert token(bucket) != "theirs"


def be_taken_over(ledger: Ledger) -> None:
    """Is as blocked as a thread can be, while another machine has the lock."""
    write_lock(ledger)
    threading.Event().wait(60)


@pytest.mark.parametrize("deaf", [False, True], ids=["", "begun with & by a script"])
def test_a_driver_whose_sweep_was_taken_over_is_woken_and_leaves_the_lock(bucket: Ledger, deaf: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if deaf else signal.getsignal(signal.SIGINT)
    handler = signal.getsignal(lock.STOP)
    said = "'mine' was taken over by process 7 on elsewhere"
    try:
        with pytest.raises(Mistake, match=said), hold(bucket, lease=LEASE):
            be_taken_over(bucket)
    finally:
        signal.signal(signal.SIGINT, before)
    assert token(bucket) == "theirs"
    assert signal.getsignal(lock.STOP) == handler


def test_work_that_stops_in_order_is_told_of_the_take_over_too(bucket: Ledger) -> None:
    stopping = contextlib.suppress(KeyboardInterrupt)
    with pytest.raises(Mistake, match="was taken over"), hold(bucket, lease=LEASE), stopping:
        be_taken_over(bucket)


def test_a_lock_that_changed_hands_since_the_last_beat_is_not_released(bucket: Ledger) -> None:
    with hold(bucket):
        write_lock(bucket)
    assert token(bucket) == "theirs"


def test_the_lock_is_renewed_and_ctrl_c_is_still_ctrl_c(bucket: Ledger) -> None:
    def work_until_ctrl_c() -> None:
        first, limit = bucket.read_lock(), time.monotonic() + 30
        while bucket.read_lock() == first:
            assert time.monotonic() < limit
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hold(bucket, lease=LEASE):
        work_until_ctrl_c()
    assert token(bucket) == ""


class Faulty(Objects):
    """A bucket whose next puts of the lock are applied or not, and then fail."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects._store)
        self.failures: list[bool] = []

    def put(self, path: str, data: bytes, version: dict[str, str] | None) -> dict[str, str] | None:
        if self.failures and path.endswith("lock.json"):
            if self.failures.pop(0):
                super().put(path, data, version)
            raise OSError(5, "the answer was lost")
        return super().put(path, data, version)


def test_renewals_whose_answers_are_lost_lose_nothing(bucket: Ledger) -> None:
    assert bucket.objects is not None
    objects = bucket.__dict__["objects"] = Faulty(bucket.objects)
    with hold(bucket, lease=LEASE) as held:
        for applied in ([True], [False], [True, True, False], [False, True]):
            objects.failures = list(applied)
            limit = time.monotonic() + 30
            while objects.failures:
                assert time.monotonic() < limit
                time.sleep(0.01)
            held.check()
            held.ledger.write_sweep({"applied": applied})
    assert token(bucket) == ""


def test_in_doubt_the_store_is_asked_and_a_lock_that_nobody_took_is_kept(
    bucket: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a machine has slept: no renewal ran meanwhile."""
    asleep = [0.0]
    now = lock._now
    monkeypatch.setattr(lock, "_now", lambda: now() + asleep[0])

    def work(held: Hold) -> None:
        asleep[0] = 1000.0
        held.check()
        held.ledger.write_sweep({"after": 1})
        asleep[0] = 2000.0
        write_lock(bucket)
        for write in (held.check, lambda: held.ledger.write_sweep({"after": 2})):
            with pytest.raises(LockLost, match="taken over"):
                write()
        with pytest.raises(LockLost):
            held.ledger.begin("k", {})
        with pytest.raises(LockLost):
            held.ledger.with_patience(60).write_report("table.csv", b"x")

    with pytest.raises(Mistake, match="taken over"), hold(bucket, lease=30) as held:
        work(held)
    assert bucket.read_sweep() == {"after": 1}
    assert not bucket.begun()


def test_a_store_that_stays_away_ends_the_hold(bucket: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket.objects is not None
    objects = bucket.__dict__["objects"] = Faulty(bucket.objects)
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 1.0)

    def work() -> None:
        objects.failures = [False] * 10_000
        threading.Event().wait(60)

    with pytest.raises(Mistake, match=r"has not answered for [0-9]+ s"), hold(bucket, lease=LEASE):
        work()


def test_a_guard_stays_in_its_process(bucket: Ledger, tmp_path: Path) -> None:
    import pickle

    for ledger in (bucket, Ledger(str(tmp_path), "mine")):
        with hold(ledger, lease=LEASE) as held:
            assert held.ledger == ledger
            sent = pickle.loads(pickle.dumps(held.ledger))
            assert sent.guard is None
            assert sent == ledger


class Unconditional(Objects):
    """A bucket that takes every put, as some stores do."""

    def put(self, path: str, data: bytes, version: dict[str, str] | None) -> dict[str, str] | None:
        import obstore

        found = obstore.put(self._store, path.split("/", 1)[1], data)
        return {"e_tag": str(found["e_tag"])}


def test_a_store_without_conditions_is_not_shared(bucket: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.02)
    assert bucket.objects is not None
    bucket.__dict__["objects"] = Unconditional(bucket.objects._store)
    with hold(bucket):
        assert token(bucket)
    assert token(bucket) == ""
    write_lock(bucket)
    said = rf"held by process 7 on elsewhere, .* delete {bucket.uri}/lock\.json and give the command again"
    with pytest.raises(Mistake, match=said), hold(bucket, lease=0.1):
        pass
    assert token(bucket) == "theirs"
    assert [info.base_name for info in bucket._files.listing(bucket._path())] == ["lock.json"]


# Two at once

CONTEND = """
import random, sys, time
from orchestrator.ledger import lock
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.objects import Objects, Version, knows_conditions
from orchestrator.ledger.owner import owner_of
from trainables.mistake import Mistake

storage, seed, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
draw = random.Random(seed)

def slowed(call):
    def slow(*arguments):
        time.sleep(draw.uniform(0, pause))
        found = call(*arguments)
        time.sleep(draw.uniform(0, pause))
        return found
    return slow

if pause:
    for name in ("read", "put", "delete"):
        setattr(Objects, name, slowed(getattr(Objects, name)))

print("ready", flush=True)
for line in sys.stdin:
    time.sleep(draw.uniform(0, 0.05))
    try:
        with lock.hold(Ledger(storage, line.strip()), lease=6.0) as held:
            print("held", flush=True)
            sys.stdin.readline()
            held.check()
            print("still", flush=True)
    except Mistake as mistake:
        print("busy" if "is being run by" in str(mistake) else mistake, flush=True)
        sys.stdin.readline()
"""


def contend(storage: str, rounds: int, pause: float) -> None:
    """Have two processes ask for the same sweep within 50 ms, so many times, and see one of them get it."""
    line = [sys.executable, "-c", CONTEND, storage]
    both = [
        subprocess.Popen(
            [*line, str(seed), str(pause)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for seed in (1, 2)
    ]

    def answers() -> list[str]:
        return [each.stdout.readline().strip() for each in both if each.stdout]

    def tell(words: str) -> None:
        for each in both:
            assert each.stdin is not None
            each.stdin.write(f"{words}\n")
            each.stdin.flush()

    try:
        assert answers() == ["ready", "ready"]
        for number in range(rounds):
            tell(f"r{number}-{pause:g}")
            found = answers()
            assert sorted(found) == ["busy", "held"], f"round {number}"
            tell("go on")
            holder = both[found.index("held")]
            assert holder.stdout is not None
            assert holder.stdout.readline().strip() == "still", f"round {number}"
    finally:
        for each in both:
            each.kill()
            each.communicate()


@pytest.mark.parametrize("pause", [0.0, 0.2], ids=["", "pauses between requests"])
@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_that_ask_together_one_holds_a_bucket_s_sweep(s3: str, rounds: int, pause: float) -> None:
    contend(s3, rounds, pause)


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_that_ask_together_one_holds_a_folder_s_sweep(tmp_path: Path, rounds: int) -> None:
    contend(str(tmp_path), rounds, 0.0)


WRITE = """
import sys
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from trainables.mistake import Mistake
try:
    with hold(Ledger(sys.argv[1], "mine"), lease=1.0) as held:
        print("held", flush=True)
        for number in range(100):
            held.ledger.write_report(f"{number}.txt", b"x")
            print(f"wrote {number}", flush=True)
            sys.stdin.readline()
except Mistake as mistake:
    print(mistake, flush=True)
"""


def test_an_owner_that_was_suspended_beyond_its_lease_writes_nothing_more(s3: str) -> None:
    mine = Ledger(s3, "mine")
    process = start_holder(s3, WRITE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "wrote 0"
        process.send_signal(signal.SIGSTOP)
        process.stdin.write("\n" * 100)  # all that it would go on with
        process.stdin.flush()
        with hold(mine, lease=1.0) as held:
            there = token(mine)
            held.ledger.write_report("of the other.txt", b"x")
            process.send_signal(signal.SIGCONT)
            said, _ = process.communicate(timeout=60)
            assert token(mine) == there
    finally:
        process.kill()
        process.communicate()
    assert "The sweep 'mine' was taken over by process" in said
    assert "wrote" not in said
    names = {info.base_name for info in mine._files.listing(mine._path("report"))}
    assert names == {"0.txt", "of the other.txt"}


def test_a_store_knows_conditions_even_if_it_answers_twice_or_not(bucket: Ledger) -> None:
    class Forgetful(Objects):
        """Writes, and forgets to say so, as after a lost answer and a second request."""

        def put(self, path: str, data: bytes, version: Version | None) -> Version | None:
            written = super().put(path, data, version)
            return None if data in (b"1", b"3") else written

    assert bucket.objects is not None
    forgetful = Forgetful(bucket.objects._store)
    assert knows_conditions(forgetful, bucket.lock_probe("probe"))
    assert bucket.objects.version(bucket.lock_probe("probe")) is None


@pytest.mark.parametrize(
    "odd",
    [{"pid": 10**12, "machine": lock._machine()}, {"renewed": "x"}, {"since": 1e200}, {"lease": "for ever"}],
    ids=str,
)
def test_a_lock_that_says_odd_things_is_another_s_or_free(bucket: Ledger, odd: dict[str, object]) -> None:
    write_lock(bucket, **odd)
    owner = owner_of(bucket)
    assert owner is not None
    assert owner.since is None
    with hold(bucket, LEASE):
        pass


def test_an_owner_that_was_not_heard_of_for_long_is_silent(bucket: Ledger) -> None:
    write_lock(bucket, renewed=time.time() - 100, lease=60)
    owner = owner_of(bucket)
    assert owner is not None
    assert not owner.silent
    write_lock(bucket, renewed=time.time() - 130, lease=60)
    owner = owner_of(bucket)
    assert owner is not None
    assert owner.silent


def test_a_missing_file_of_a_bucket_is_set_aside_with_its_cell(bucket: Ledger) -> None:
    bucket.write_sweep({"some": 1})
    attempt = bucket.begin("abc", {"opened": []})
    values = {"phase": "final", "aux_weights": {}, "values": {"epochs": 1}}
    about = {"number": attempt, "seconds": 1.0, "finished_at": 1.0}
    bucket.finish("abc", attempt, values, about, scores=pa.table({"index": [0]}))
    assert bucket.read_result("abc") is not None
    bucket._files.delete(bucket._path("cells", "abc", "scores.parquet"))
    (found,) = bucket.damaged(["abc"])
    bucket.set_aside(found)
    assert bucket.read_result("abc") is None
    assert bucket.damaged(["abc"]) == []

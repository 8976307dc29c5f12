"""Ledger and lock under any interleaving of begins, writes, ends, crashes, damage and take-overs."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from obstore.store import MemoryStore

from orchestrator.ledger import lock
from orchestrator.ledger.ledger import Ledger, Superseded
from orchestrator.ledger.lock import LockLost, _Lease
from orchestrator.ledger.objects import Objects
from trainables.mistake import Mistake

KEYS = st.sampled_from(["a", "b"])
HARMED = st.sampled_from(["cell.json", "result.json", "scores.parquet", "attempts/1.json"])


class Cells(RuleBasedStateMachine):
    """Attempts at two cells, any of which may be alive, dead or stopped for a while."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(self.folder.name, "mine")
        self.newest = {"a": 0, "b": 0}
        self.results: dict[str, dict[str, Any]] = {}
        self.former: dict[str, dict[str, Any]] = {}
        """Results of cells since damaged, which count again if what was damaged is written anew."""
        self.harmed: set[str] = set()
        """Cells without a cell.json that is whole."""
        self.written: dict[str, int] = {}
        """The attempt whose curves each cell has."""

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(target=attempts, key=KEYS)
    def begin(self, key: str) -> tuple[str, int]:
        number = self.ledger.begin(key, {"cell": {"key": key}})
        assert number == self.newest[key] + 1
        self.newest[key] = number
        self.harmed.discard(key)
        return key, number

    def _allowed(self, key: str, number: int) -> contextlib.AbstractContextManager[object]:
        superseded = number < self.newest[key]
        return pytest.raises(Superseded) if superseded else contextlib.nullcontext()

    @rule(attempt=attempts, epoch=st.integers(1, 5))
    def checkpoint(self, attempt: tuple[str, int], epoch: int) -> None:
        with self._allowed(*attempt):
            self.ledger.write_checkpoint(attempt[0], epoch, attempt[1], b"state")
            assert len(self.ledger.checkpoints(attempt[0])) <= 2

    @rule(attempt=attempts)
    def curves(self, attempt: tuple[str, int]) -> None:
        key, number = attempt
        if key in self.results:  # an attempt that knows of a result writes nothing
            return
        with self._allowed(key, number):
            self.ledger.write_curves(key, number, [{"epoch": 1, "by": float(number)}])
            self.written[key] = number
        rows = self.ledger.read_curves(key)
        assert [row["by"] for row in rows] == ([self.written[key]] if key in self.written else [])

    @rule(attempt=attempts)
    def finish(self, attempt: tuple[str, int]) -> None:
        key, number = attempt
        done = self.ledger.read_result(key)
        harmed = key in self.harmed and number == self.newest[key]
        refused = pytest.raises(RuntimeError, match="was damaged while the cell ran")
        with contextlib.nullcontext() if done else refused if harmed else self._allowed(key, number):
            scores = pa.table({"msp": [float(number)]})
            found = self.ledger.finish(
                key, number, {"values": {"v": number}}, {"number": number}, scores=scores
            )
            assert found == (done or found)
            self.results[key] = found
            self.ledger.end_attempt(
                key, number, "done" if found["attempt"]["number"] == number else "superseded"
            )

    @rule(attempt=attempts, ending=st.sampled_from(["failed", "interrupted", "stalled"]))
    def end(self, attempt: tuple[str, int], ending: str) -> None:
        before = self._record(*attempt)
        self.ledger.end_attempt(*attempt, ending, "a sentence")
        after = self._record(*attempt)
        if before is not None and before["ending"] not in ("running", "lost"):
            assert after == before

    @rule(key=KEYS, name=HARMED, content=st.sampled_from([b"", b"{}", b'{"values": {}}']))
    def damage(self, key: str, name: str, content: bytes) -> None:
        path = Path(self.folder.name, "mine", "cells", key, name)
        if path.exists():
            path.write_bytes(content)
            if name != "attempts/1.json":
                self.former |= {key: self.results.pop(key)} if key in self.results else {}
            if name == "cell.json":
                self.harmed.add(key)

    @rule()
    def mend(self) -> None:
        for found in self.ledger.damaged(self.newest):
            self.ledger.set_aside(found)
        assert self.ledger.damaged(self.newest) == []
        self.ledger.close_lost(self.newest)
        for records in self.ledger.read_attempts(self.newest).values():
            assert "running" not in [record["ending"] for record in records]

    @rule()
    def reload(self) -> None:
        self.ledger = Ledger(self.folder.name, "mine")

    def _record(self, key: str, number: int) -> dict[str, Any] | None:
        found = self.ledger.read_attempts([key]).get(key, [])
        return next((record for record in found if record["attempt"] == number), None)

    @invariant()
    def one_result_and_whole(self) -> None:
        found = self.ledger.read_results(self.newest)
        assert self.results.items() <= found.items()
        assert all(found[key] == self.former[key] for key in found.keys() - self.results.keys())

    @invariant()
    def nothing_in_part(self) -> None:
        assert not list(Path(self.folder.name).rglob("*.part"))


class Drivers(RuleBasedStateMachine):
    """Drivers that hold one sweep of a bucket one after the other, by an injected clock."""

    drivers = Bundle("drivers")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(lock, "_now", lambda: self.now)
        self.patch.setattr(lock.time, "sleep", self.pass_time)
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(self.folder.name, "mine")
        # The lock's path begins with the name of a bucket, as in a store.
        self.ledger.__dict__["_root"] = (self.ledger._root[0], "bucket/runs")
        self.objects = Objects(MemoryStore())
        self.last: _Lease | None = None
        self.others: list[_Lease] = []

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=drivers)
    def start(self) -> _Lease | None:
        """Nobody renews while it watches, so it takes the sweep over."""
        began, free = self.now, self.last is None or self.last._over.is_set()
        held = _Lease.acquire(self.ledger, self.objects, lease=6.0)
        assert free or self.now >= began + 6.0 - 1e-6
        if self.last is not None:
            self.others.append(self.last)
        self.last = held
        return held

    @rule(driver=drivers)
    def start_beside_one_that_renews(self, driver: _Lease) -> None:
        if driver is not self.last or driver._over.is_set():
            return

        def renewing(seconds: float) -> None:
            self.now += seconds
            driver._renew()

        self.patch.setattr(lock.time, "sleep", renewing)
        with pytest.raises(Mistake, match="is being run by"):
            _Lease.acquire(self.ledger, self.objects, lease=6.0)
        self.patch.setattr(lock.time, "sleep", self.pass_time)

    @rule(seconds=st.sampled_from([0.5, 4.0, 5.5, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(driver=drivers)
    def renew(self, driver: _Lease) -> None:
        if not driver._over.is_set():
            driver._renew()

    @rule(driver=drivers)
    def write(self, driver: _Lease) -> None:
        """It may write if, and only if, nobody has taken the sweep over."""
        if driver._over.is_set():
            return
        with contextlib.nullcontext() if driver is self.last else pytest.raises(LockLost):
            driver.check()

    @rule(driver=drivers)
    def release(self, driver: _Lease) -> None:
        driver._over.set()
        lost = driver.lost
        driver._write(lock._released())
        assert (driver.lost is None) == (driver is self.last) or lost is not None

    @rule(driver=drivers)
    def lose_an_answer(self, driver: _Lease) -> None:
        """It has renewed the lock and does not know it."""
        if driver is self.last and not driver._over.is_set() and driver.lost is None:
            version = driver._version
            driver._renew()
            driver._version = version

    @invariant()
    def one_at_most(self) -> None:
        assert not any(self._trusts(other) for other in self.others)

    def _trusts(self, driver: _Lease) -> bool:
        """Whether a driver would write without asking."""
        fresh = self.now - driver._renewed <= driver._lease * (1 - lock.MARGIN)
        return driver.lost is None and fresh and not driver._over.is_set()


QUICK = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=400, stateful_step_count=60, derandomize=False)
SIZES = [pytest.param(QUICK, id="few"), pytest.param(LONG, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("size", SIZES)
def test_cells_have_one_result_and_attempts_numbers_of_their_own(size: settings) -> None:
    run_state_machine_as_test(Cells, settings=size)


@pytest.mark.parametrize("size", SIZES)
def test_a_sweep_has_one_owner(size: settings) -> None:
    run_state_machine_as_test(Drivers, settings=size)

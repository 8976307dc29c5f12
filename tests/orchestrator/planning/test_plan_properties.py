"""The plan under any interleaving of what can happen to a sweep, found by hypothesis."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.planning.cells import SEARCH, Cell, Cells, lay_out
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import DONE, FAILED, READY, RUNNING, WAITING, Assignment, Plan
from orchestrator.planning.request import Request, draft
from orchestrator.planning.studies import Outcome, suggest

CLASSES = tuple(str(digit) for digit in range(10))
EPOCHS = 9
SHAPES = [
    {"select": select, "search_round": search_round, "lambda_trials": trials}
    for select in ("holdout", "benchmark")
    for search_round in (1, 2)
    for trials in (1, 3)
] + [
    {"lambda_trials": 10, "select": "benchmark"},
    {"lambda_trials": 3, "search_seeds": 2},
    {"lambda_trials": 4, "halving": 2},
    {"lambda_trials": 9, "halving": 3, "select": "benchmark", "search_seeds": 2},
    {"lambda_trials": 3, "search": ("learning_rate=0.01..0.3",), "choose": "best"},
]


def cells_of(shape: dict[str, object]) -> Cells:
    asked = dict(shape)
    changes = {
        "seeds": 2,
        "holdouts": ("3", "8"),
        "assignments": (f"search_round={asked.pop('search_round', 1)}", f"epochs={EPOCHS}"),
    }
    return lay_out(draft(Request(**changes, **asked)).complete("cpu", CLASSES), "data")  # type: ignore[arg-type]


def value_of(cell: Cell, what: Hyperparameters, epoch: int | None) -> float | None:
    """A validation accuracy that depends on the cell, its training and the epoch alone, with ties.

    None for a divergence.
    """
    drawn = random.Random(f"{cell.holdout}/{cell.seed}/{what}/{epoch}").random()
    return None if drawn < 0.05 else round(drawn, 1)


def ended(assignment: Assignment, rungs: dict[int, float]) -> Outcome | float:
    """What an attempt leaves: a result or, at a rung, a value. `rungs` are those reached before."""
    cell, what, until = assignment.cell, assignment.what, assignment.until
    if cell.phase != SEARCH:
        return Outcome(what)
    if until is not None and assignment.stops:
        before = {rung: value for rung, value in rungs.items() if rung < until}
        return Outcome(what, rungs[until], before, stopped_at=until)
    value = value_of(cell, what, until)
    if value is None:
        return Outcome(what, 0.0, dict(rungs), diverged=True)
    return Outcome(what, value, dict(rungs)) if until is None else value


def undisturbed(cells: Cells) -> dict[str, Outcome]:
    """What one cell after another gives."""
    plan, done = Plan(cells, suggest), {}
    rungs: dict[str, dict[int, float]] = defaultdict(dict)
    while (assignment := plan.next()) is not None:
        key = assignment.cell.key
        found = ended(assignment, rungs[key])
        if isinstance(found, Outcome):
            plan.done(key, found)
            done[key] = found
        else:
            assert assignment.until is not None
            rungs[key][assignment.until] = found
            plan.reached(key, assignment.until, found)
    return done


class Sweep(RuleBasedStateMachine):
    """A plan, the ledger that outlives it, and an executor that does anything at any time."""

    @initialize(shape=st.sampled_from(SHAPES), retries=st.integers(0, 3))
    def begin(self, shape: dict[str, object], retries: int) -> None:
        self.cells = cells_of(shape)
        self.all = {cell.key: cell for cell in self.cells.all()}
        self.expected = undisturbed(self.cells)
        self.retries = retries
        self.ledger: dict[str, Outcome] = {}
        self.rungs: dict[str, dict[int, float]] = defaultdict(dict)
        self.reload()

    def reload(self) -> None:
        self.plan = Plan(self.cells, suggest, self.ledger, reached=self.rungs, retries=self.retries)
        self.running: dict[str, Assignment] = {}
        self.handed_out: Counter[str] = Counter()
        self.granted: Counter[str] = Counter(dict.fromkeys(self.all, 1))
        """How many tries a cell may have: one, and one for each failure that is forgiven or retried."""
        self.epochs: Counter[str] = Counter()
        self.streak: Counter[str] = Counter()
        self.given_up: set[str] = set()

    # What can happen

    @rule()
    def next(self) -> None:
        assignment = self.plan.next()
        if assignment is None:
            assert not self.plan.counts()[READY]
            return
        key = assignment.cell.key
        assert key not in self.running, "handed out twice at once"
        assert key not in self.ledger, "done already"
        assert key not in self.given_up, "given up"
        expected = self.expected[key]
        assert assignment.what == expected.what, "another lambda"
        assert not assignment.stops or assignment.until == expected.stopped_at, "another decision at a rung"
        assert (assignment.until or 0) <= (expected.stopped_at or EPOCHS), "trained beyond its rung"
        self.running[key] = assignment
        self.handed_out[key] += 1
        assert self.handed_out[key] <= self.granted[key], "tried more often than is allowed"

    def finish(self, key: str) -> None:
        assignment = self.running.pop(key)
        found = ended(assignment, self.rungs[key])
        if isinstance(found, Outcome):
            self.ledger[key] = found
            self.plan.done(key, found)
        else:
            assert assignment.until is not None
            self.rungs[key][assignment.until] = found
            self.granted[key] += 1
            self.plan.reached(key, assignment.until, found)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def died_after_its_result(self, data: st.DataObject) -> None:
        """The ledger has what an attempt left, the plan hears of a failure, the next one finds it."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        assignment = self.running.pop(key)
        left = ended(assignment, self.rungs[key])
        if isinstance(left, Outcome):
            self.ledger[key] = left
        else:
            assert assignment.until is not None
            self.rungs[key][assignment.until] = left
        if self.plan.failed(key, "its process died"):
            self.streak[key] += 1
            self.granted[key] += 1
            while key not in self.running:  # others come first
                found = self.plan.next()
                assert found is not None
                self.running[found.cell.key] = found
                self.handed_out[found.cell.key] += 1
            self.finish(key)
        else:
            self.given_up.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), retryable=st.booleans())
    def failed(self, data: st.DataObject, retryable: bool) -> None:
        self.fail(data.draw(st.sampled_from(sorted(self.running))), retryable)

    def fail(self, key: str, retryable: bool) -> None:
        del self.running[key]
        again = self.plan.failed(key, "a failure", retryable=retryable)
        self.streak[key] += 1
        assert again == (retryable and self.streak[key] <= self.retries)
        if again:
            self.granted[key] += 1
        else:
            self.given_up.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), reached=st.lists(st.integers(0, EPOCHS), min_size=2, max_size=8))
    def struggled(self, data: st.DataObject, reached: list[int]) -> None:
        """One cell fails again and again, and gets on meanwhile, or does not."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        for epoch in reached:
            if epoch:
                self.report(key, epoch)
            self.fail(key, retryable=True)
            while key not in self.given_up and key not in self.running:
                self.next()
            if key in self.given_up:
                return

    @precondition(lambda self: self.running)
    @rule(data=st.data(), epoch=st.integers(1, EPOCHS))
    def progressed(self, data: st.DataObject, epoch: int) -> None:
        """Reports may come late, and from an attempt that has begun again further back."""
        self.report(data.draw(st.sampled_from(sorted(self.running))), epoch)

    def report(self, key: str, epoch: int) -> None:
        self.plan.progressed(key, epoch)
        if epoch > self.epochs[key]:
            self.epochs[key] = epoch
            self.streak[key] = 0

    @rule()
    def crash(self) -> None:
        """The driver dies; what runs is lost, and the next one knows the ledger alone."""
        self.reload()

    @precondition(lambda self: self.ledger)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A result is lost while no driver runs."""
        del self.ledger[data.draw(st.sampled_from(sorted(self.ledger)))]
        self.reload()

    @precondition(lambda self: any(self.rungs.values()))
    @rule(data=st.data())
    def rung_lost(self, data: st.DataObject) -> None:
        """A record of a rung is lost while no driver runs: of a cell that is done, its result has it."""
        key = data.draw(st.sampled_from(sorted(key for key, values in self.rungs.items() if values)))
        del self.rungs[key][data.draw(st.sampled_from(sorted(self.rungs[key])))]
        if key in self.ledger and not data.draw(st.booleans()):
            self.rungs[key] = {}
        self.reload()

    # What must hold

    @invariant()
    def every_cell_is_somewhere(self) -> None:
        counts = self.plan.counts()
        assert sum(counts.values()) == len(self.all)
        assert min(counts.values()) >= 0
        assert counts[RUNNING] == len(self.running)
        assert counts[FAILED] == len(self.given_up) == len(self.plan.failures())
        assert counts[DONE] + len(self.ledger.keys() & self.given_up) == len(self.ledger)

    @invariant()
    def it_is_finished_only_when_nothing_can_go_on(self) -> None:
        counts = self.plan.counts()
        assert self.plan.finished == (not counts[RUNNING] and not counts[READY])
        if self.plan.finished and counts[WAITING]:
            waits_for = {s.study.label for s in self.plan._studies if s.chosen is None}
            searches = {
                cell.key
                for study in self.cells.studies
                if study.label in waits_for
                for row in study.searches
                for cell in row
            }
            assert searches & self.given_up, "cells wait, and nothing that they wait for has failed"
            blocked = {cell.key for cell in self.plan.blocked()}
            assert len(blocked) == counts[WAITING]

    def teardown(self) -> None:
        """Whatever has happened, a driver that is left in peace ends with the undisturbed outcome."""
        if not hasattr(self, "cells"):
            return
        self.reload()
        while (assignment := self.plan.next()) is not None:
            self.running[assignment.cell.key] = assignment
            self.finish(assignment.cell.key)
        assert self.plan.finished
        assert self.ledger == self.expected
        assert self.plan.chosen() == self.chosen_in_peace()

    def chosen_in_peace(self) -> dict[str, Hyperparameters]:
        return Plan(self.cells, suggest, self.expected).chosen()


TestSweep = Sweep.TestCase
TestSweep.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.slow
def test_a_long_search_for_an_interleaving_that_breaks_the_plan() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Sweep,
        settings=settings(
            max_examples=2000,
            stateful_step_count=80,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )

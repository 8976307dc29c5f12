"""The plan under any interleaving of what can happen to a sweep, found by hypothesis."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.planning.cells import SEARCH, Cell, Cells, lay_out
from orchestrator.planning.plan import DONE, FAILED, READY, RUNNING, WAITING, Assignment, Plan
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Weights
from orchestrator.planning.studies import Outcome, suggest

CLASSES = tuple(str(digit) for digit in range(10))
EPOCHS = 4
SHAPES = [
    {"select": select, "search_round": search_round, "lambda_trials": trials}
    for select in ("holdout", "benchmark")
    for search_round in (1, 2)
    for trials in (1, 3)
]


def cells_of(shape: dict[str, object]) -> Cells:
    asked = dict(shape)
    changes = {
        "seeds": 2,
        "holdouts": ("3", "8"),
        "assignments": (f"search_round={asked.pop('search_round')}",),
    }
    return lay_out(draft(Request(**changes, **asked)).complete("cpu", CLASSES), "data")  # type: ignore[arg-type]


def value_of(cell: Cell, weights: Weights) -> float | None:
    """A validation accuracy that depends on cell and weights alone, with ties."""
    if cell.phase != SEARCH:
        return None
    return round(random.Random(f"{cell.holdout}/{weights}").random(), 1)


def undisturbed(cells: Cells) -> dict[str, Outcome]:
    """What one cell after another gives."""
    plan, done = Plan(cells, suggest), {}
    while (assignment := plan.next()) is not None:
        value = value_of(assignment.cell, assignment.aux_weights)
        plan.done(assignment.cell.key, value)
        done[assignment.cell.key] = Outcome(assignment.aux_weights, value)
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
        self.reload()

    def reload(self) -> None:
        self.plan = Plan(self.cells, suggest, self.ledger, retries=self.retries)
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
        assert assignment.aux_weights == self.expected[key].aux_weights, "another lambda"
        self.running[key] = assignment
        self.handed_out[key] += 1
        assert self.handed_out[key] <= self.granted[key], "tried more often than is allowed"

    def finish(self, key: str) -> None:
        assignment = self.running.pop(key)
        value = value_of(assignment.cell, assignment.aux_weights)
        self.ledger[key] = Outcome(assignment.aux_weights, value)
        self.plan.done(key, value)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def died_after_its_result(self, data: st.DataObject) -> None:
        """The ledger has the result, the plan hears of a failure, and the next attempt finds it done."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        assignment = self.running.pop(key)
        self.ledger[key] = Outcome(assignment.aux_weights, value_of(assignment.cell, assignment.aux_weights))
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

    def chosen_in_peace(self) -> dict[str, Weights]:
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

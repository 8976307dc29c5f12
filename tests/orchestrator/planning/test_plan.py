"""The plan as a state machine: no Ray, no clock, no files."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter

import pytest

from orchestrator.planning.cells import SEARCH, Cell, Cells, Definition, lay_out
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import DONE, FAILED, READY, RUNNING, WAITING, Plan
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import RANDOM_STARTS, Specification
from orchestrator.planning.studies import History, Outcome, Tried, suggest
from trainables.spaces import LogUniform

CLASSES = tuple(str(digit) for digit in range(10))


def specification(starts: str = RANDOM_STARTS, **changes: object) -> Specification:
    """Return a sweep whose studies ask for one lambda after another, unless they start with spaced ones."""
    request = Request(**{"seeds": 2, "holdouts": ("3", "8"), "lambda_trials": 3, **changes})  # type: ignore[arg-type]
    return dataclasses.replace(draft(request).complete("cpu", CLASSES), starts=starts)


def rotation(weight: float) -> Hyperparameters:
    return Hyperparameters({"rotation": weight})


def scripted(definition: Definition, history: History, index: int) -> Hyperparameters:
    """A choice that depends on the past, so that a wrong past shows."""
    return rotation(1.0 + index + sum(tried.value for tried in history))


def value_of(cell: Cell, what: Hyperparameters) -> float:
    """A validation accuracy that depends on the cell and what it is trained with alone."""
    return random.Random(f"{cell.holdout}/{cell.seed}/{what}").random()


def run(
    plan: Plan, *, rng: random.Random, at_once: int, failing: float = 0.0, stop_after: int | None = None
) -> dict:
    """Runs a plan with cells ending in random order; returns what was done: key -> Outcome."""
    running, done = [], {}
    while not plan.finished:
        while len(running) < at_once and (assignment := plan.next()) is not None:
            running.append(assignment)
        assignment = running.pop(rng.randrange(len(running)))
        cell, what = assignment.cell, assignment.what
        if rng.random() < failing:
            plan.failed(cell.key, "a random failure")
            continue
        done[cell.key] = Outcome(what, value_of(cell, what) if cell.phase == SEARCH else None)
        plan.done(cell.key, done[cell.key])
        if stop_after is not None and len(done) >= stop_after:
            break
    return done


def test_every_cell_is_done_once_and_in_order() -> None:
    cells = lay_out(specification(), "data")
    assert Counter((cell.phase, cell.method) for cell in cells.all()) == {
        ("search", "rotation"): 6,
        ("final", "rotation"): 4,
        ("final", "classification"): 4,
    }
    plan = Plan(cells, scripted)
    done = run(plan, rng=random.Random(0), at_once=4)
    assert set(done) == {cell.key for cell in cells.all()}
    assert plan.counts() == {WAITING: 0, READY: 0, RUNNING: 0, DONE: 14, FAILED: 0}


def test_a_study_waits_for_its_earlier_cells_and_others_fill_the_slots() -> None:
    plan = Plan(lay_out(specification(), "data"), scripted)
    first = [plan.next() for _ in range(6)]
    labels = [assignment.cell.label for assignment in first if assignment is not None]
    assert labels[:2] == ["rotation/3/search0", "rotation/8/search0"]
    assert labels[2:] == [
        "classification/3/s0",
        "classification/3/s1",
        "classification/8/s0",
        "classification/8/s1",
    ]
    assert plan.next() is None
    assert not plan.finished
    plan.done(first[0].cell.key, Outcome(first[0].what, 0.5))  # type: ignore[union-attr]
    assert plan.next().cell.label == "rotation/3/search1"  # type: ignore[union-attr]


@pytest.mark.parametrize("select", ["holdout", "benchmark"])
@pytest.mark.parametrize("search_round", [1, 2])
def test_lambdas_do_not_depend_on_order_concurrency_failures_or_restarts(
    select: str, search_round: int
) -> None:
    cells = lay_out(specification(select=select, assignments=(f"search_round={search_round}",)), "data")
    undisturbed = run(Plan(cells, suggest), rng=random.Random(0), at_once=1)
    for trial in range(3):
        rng = random.Random(trial)
        done: dict[str, Outcome] = {}
        while len(done) < len(cells.all()):
            plan = Plan(cells, suggest, done)
            done |= run(plan, rng=rng, at_once=rng.randint(1, 7), failing=0.1, stop_after=3)
        assert done == undisturbed


def test_the_weights_of_the_best_value_are_handed_to_final_cells() -> None:
    cells = lay_out(specification(holdouts=("3",)), "data")
    plan = Plan(cells, lambda definition, history, index: rotation([0.5, 2.0, 1.0][index]))
    values = {0.5: 0.8, 2.0: 0.9, 1.0: 0.9}
    finals = []
    while (assignment := plan.next()) is not None:
        cell, weights = assignment.cell, assignment.what.aux_weights
        if cell.phase == SEARCH:
            plan.done(cell.key, Outcome(assignment.what, values[weights["rotation"]]))
        else:
            finals.append((cell.method, weights))
            plan.done(cell.key)
    assert [weights for method, weights in finals if method == "rotation"] == [
        {"rotation": 1.0}
    ] * 2  # the smaller of a tie
    assert [weights for method, weights in finals if method == "classification"] == [{}] * 2
    assert plan.chosen() == {"rotation/3": rotation(1.0)}


def test_select_benchmark_tells_the_study_the_mean_over_holdouts() -> None:
    told: list[History] = []

    def remember(definition: Definition, history: History, index: int) -> Hyperparameters:
        told.append(list(history))
        return rotation(index + 1.0)

    plan = Plan(lay_out(specification(select="benchmark", methods=("rotation",)), "data"), remember)
    for value in (0.2, 0.6):
        assignment = plan.next()
        assert assignment is not None
        plan.done(assignment.cell.key, Outcome(assignment.what, value))
    assert told == [[], [Tried(0, rotation(1.0), pytest.approx(0.4))]]  # type: ignore[arg-type]


def test_a_cell_that_keeps_failing_is_named_and_blocks_only_what_waits_for_it() -> None:
    cells = lay_out(specification(), "data")
    plan = Plan(cells, scripted, retries=2)
    tries = 0
    while (assignment := plan.next()) is not None:
        cell = assignment.cell
        if cell.label == "rotation/8/search1":
            tries += 1
            assert plan.failed(cell.key, "out of memory") == (tries < 3)
        else:
            plan.done(cell.key, Outcome(assignment.what, 0.5 if cell.phase == SEARCH else None))
    assert plan.finished
    assert {cell.label: error for cell, error in plan.failures().items()} == {
        "rotation/8/search1": "out of memory"
    }
    assert {cell.label for cell in plan.blocked()} == {"rotation/8/search2", "rotation/8/s0", "rotation/8/s1"}
    assert plan.chosen().keys() == {"rotation/3"}


def test_a_failure_that_is_not_retryable_is_not_repeated() -> None:
    plan = Plan(lay_out(specification(), "data"), scripted)
    cell = plan.next().cell  # type: ignore[union-attr]
    assert plan.failed(cell.key, "diverged", retryable=False) is False
    assert list(plan.failures()) == [cell]


def test_given_weights_need_no_search() -> None:
    asked = specification(aux_weight=("0.5",), lambda_trials=None)
    plan = Plan(lay_out(asked, "data"), scripted)
    weights = {}
    while (assignment := plan.next()) is not None:
        weights[assignment.cell.label] = assignment.what.aux_weights
        plan.done(assignment.cell.key)
    assert weights["rotation/3/s0"] == {"rotation": 0.5}
    assert weights["classification/3/s0"] == {}
    assert len(weights) == 8


@pytest.mark.parametrize("holdouts", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_ten_and_a_hundred_thousand_cells_with_failures_and_restarts_end_in_time(holdouts: int) -> None:
    """5% random failures and 20 restarts from an in-memory ledger: every cell done once, in under 30 s."""
    held = tuple(f"class{number}" for number in range(holdouts))
    asked = Specification(
        "digits",
        ("classification", "rotation"),
        held,
        120,
        specification().recipe,
        {"rotation": LogUniform(0.05, 5)},
        lambda_trials=10,
    )
    started = time.process_time()
    cells: Cells = lay_out(asked, "data")
    total = len(cells.all())
    assert total == holdouts * (2 * 120 + 10)
    rng = random.Random(0)
    ledger: dict[str, Outcome] = {}
    for restart in range(21):
        plan = Plan(cells, scripted, ledger, retries=1000)
        session = run(
            plan, rng=rng, at_once=64, failing=0.05, stop_after=total // 21 if restart < 20 else None
        )
        assert not ledger.keys() & session.keys()
        ledger |= session
    assert ledger.keys() == {cell.key for cell in cells.all()}
    assert time.process_time() - started < 30

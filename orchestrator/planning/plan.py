"""The plan of a sweep as one state machine: which cell comes next, and which cells are left.

It knows no scheduler, tracker, storage or clock. It is told which cells are done, which have reached a rung
and which failed, and asks a study what to try next only when every earlier round of that study is done. So
neither lambdas nor the decisions at rungs depend on the order in which cells happen to run.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.planning.cells import FINAL, SEARCH, Cell, Cells, Definition, Study
from orchestrator.planning.halving import promoted
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.studies import (
    History,
    Outcome,
    Tried,
    choose,
    history,
    mean_value,
    opens_until,
    tried,
)

WAITING, READY, RUNNING, DONE, FAILED = "waiting", "ready", "running", "done", "failed"

Suggest = Callable[[Definition, History, int], Hyperparameters]
Rungs = Mapping[str, Mapping[int, float]]
"""By cell's key and epoch, the validation accuracies of cells that have reached rungs."""


@dataclass(frozen=True)
class Assignment:
    """A cell to run now, with what it is trained with."""

    cell: Cell
    what: Hyperparameters
    until: int | None = None
    """The epoch of the rung to which it trains; None for the end."""
    stops: bool = False
    """Whether it goes no further than that rung, which it has reached: its result is to be written."""
    rungs: tuple[int, ...] = ()
    """The epochs of all rungs of its study before the end."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> Assignment:
        """Return the assignment that `as_json` described."""
        cell, rungs = Cell(**values["cell"]), tuple(values["rungs"])
        return Assignment(cell, Hyperparameters.of(values), values["until"], values["stops"], rungs)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        how = {"until": self.until, "stops": self.stops, "rungs": list(self.rungs)}
        return {"cell": asdict(self.cell), **self.what.as_json(), **how}


@dataclass
class _StudyState:
    study: Study
    history: list[Tried] = field(default_factory=list)
    opened: int = 0
    """How many search indices have been handed out."""
    chosen: Hyperparameters | None = None
    tries: dict[int, Hyperparameters] = field(default_factory=dict)
    """What each search index that was asked for tries."""


class Plan:
    """The cells of a sweep as they are handed out: search cells first, since others wait for them."""

    def __init__(
        self,
        cells: Cells,
        suggest: Suggest,
        done: Mapping[str, Outcome] | None = None,
        *,
        reached: Rungs | None = None,
        retries: int = 3,
    ) -> None:
        """Start from what is done already, and from the rungs that other cells have reached, by key."""
        self._cells = cells.all()
        self._suggest = suggest
        self._retries = retries
        self._status = {cell.key: WAITING for cell in self._cells}
        self._by_key = {cell.key: cell for cell in self._cells}
        self._outcomes: dict[str, Outcome] = {}
        self._reached = {key: dict(values) for key, values in (reached or {}).items()}
        self._errors: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._epochs: dict[str, int] = {}
        """The most epochs that the ledger was seen to hold of each cell."""
        self._counts = Counter({WAITING: len(self._cells)})
        self._ready: dict[str, deque[str]] = {SEARCH: deque(), FINAL: deque()}
        self._studies = [_StudyState(study) for study in cells.studies]
        self._study_of = {
            cell.key: state for state in self._studies for row in state.study.searches for cell in row
        }
        self._assignments: dict[str, Assignment] = {}
        for key, outcome in (done or {}).items():
            if key in self._status:
                self._finish(key, outcome)
        for state in self._studies:
            self._forget_rungs_beyond_a_lost_one(state.study)
            self._advance(state)
        for cell, what in cells.free.items():
            self._release(Assignment(cell, what))

    def next(self) -> Assignment | None:
        """Return the next cell to run, or None if none is ready (ask again once one is done)."""
        for phase in (SEARCH, FINAL):
            if self._ready[phase]:
                key = self._ready[phase].popleft()
                self._set(key, RUNNING)
                return self._assignments[key]
        return None

    def done(self, key: str, outcome: Outcome | None = None) -> None:
        """Take the result of a running cell; that of a search cell has its value."""
        self._finish(key, outcome or Outcome(self._assignments[key].what))
        state = self._study_of.get(key)
        if state is not None:
            self._advance(state)

    def reached(self, key: str, rung: int, value: float) -> None:
        """Take the validation accuracy of a running cell at the rung to which it was to train."""
        self._reached.setdefault(key, {})[rung] = value
        self._errors.pop(key, None)
        self._set(key, WAITING)
        self._advance(self._study_of[key])

    def progressed(self, key: str, epoch: int) -> None:
        """Take note that the ledger holds this many epochs of a running cell, and forgive earlier failures.

        So a long cell whose machines are taken away again and again is not given up as long as it advances;
        and since its epochs are finite, it is not tried for ever either.
        """
        if epoch > self._epochs.get(key, 0):
            self._epochs[key] = epoch
            self._failures[key] = 0

    def failed(self, key: str, error: str, *, retryable: bool = True) -> bool:
        """Take the failure of a running cell and return whether it will be tried again.

        A failure that would only repeat itself is not retryable.
        """
        self._failures[key] += 1
        self._errors[key] = error
        if not retryable or self._failures[key] > self._retries:
            self._set(key, FAILED)
            return False
        self._make_ready(self._by_key[key])
        return True

    @property
    def finished(self) -> bool:
        """Whether nothing is running or ready: cells that are left, if any, wait for failed ones."""
        return not self._counts[RUNNING] and not self._counts[READY]

    def counts(self) -> dict[str, int]:
        """Return how many cells are waiting, ready, running, done and failed."""
        return {status: self._counts[status] for status in (WAITING, READY, RUNNING, DONE, FAILED)}

    def failures(self) -> dict[Cell, str]:
        """Return the cells that failed for good, with their last error."""
        return {self._by_key[k]: self._errors[k] for k, s in self._status.items() if s == FAILED}

    def blocked(self) -> list[Cell]:
        """Return the cells that wait for a search cell that failed, once the plan is finished."""
        return [self._by_key[key] for key, status in self._status.items() if status == WAITING]

    def chosen(self) -> dict[str, Hyperparameters]:
        """Return what each finished study chose, by the study's label."""
        return {s.study.label: s.chosen for s in self._studies if s.chosen is not None}

    def _set(self, key: str, status: str) -> None:
        self._counts[self._status[key]] -= 1
        self._counts[status] += 1
        self._status[key] = status

    def _finish(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        self._errors.pop(key, None)
        self._set(key, DONE)

    def _release(self, assignment: Assignment) -> None:
        cell = assignment.cell
        if self._status[cell.key] == WAITING:
            self._assignments[cell.key] = assignment
            self._make_ready(cell)

    def _make_ready(self, cell: Cell) -> None:
        self._set(cell.key, READY)
        self._ready[cell.phase].append(cell.key)

    def _advance(self, state: _StudyState) -> None:
        """Take the values that are complete, open what follows from them, and choose once all are there."""
        if state.study.definition.halving:
            self._halve(state)
            return
        rows = state.study.searches
        while len(state.history) < len(rows):
            result = tried(state.study, len(state.history), self._outcomes)
            if result is None:
                break
            state.history.append(result)
        if len(state.history) == len(rows):
            self._choose(state)
            return
        until = opens_until(state.study.definition, len(state.history))
        for index in range(state.opened, until):
            what = self._what(state, index)
            for cell in rows[index]:
                self._release(Assignment(cell, what))
        state.opened = max(state.opened, until)

    def _forget_rungs_beyond_a_lost_one(self, study: Study) -> None:
        """Have a cell that lost the record of a rung train to all later ones again, in their order."""
        for cell in (cell for row in study.searches for cell in row):
            known = self._reached.get(cell.key, {})
            kept = itertools.takewhile(known.__contains__, study.definition.rungs)
            self._reached[cell.key] = {rung: known[rung] for rung in kept}

    def _choose(self, state: _StudyState) -> None:
        if state.chosen is None:
            state.chosen = choose(state.history, state.study.definition.choose)
            for cell in state.study.finals:
                self._release(Assignment(cell, state.chosen))

    def _halve(self, state: _StudyState) -> None:
        """Decide every rung whose values are all there, have the others trained to theirs, and choose."""
        study, definition = state.study, state.study.definition
        *before, end = definition.rungs
        going = list(range(definition.trials))
        for rung in (*before, end):
            found = {index: self._at(study, index, rung, last=rung == end) for index in going}
            values = {index: value for index, value in found.items() if value is not None}
            if len(values) < len(found):
                for index in found.keys() - values.keys():
                    self._train_to(state, index, rung, last=rung == end)
                return
            if rung != end:
                on = promoted(values, definition.halving)
                for index in values.keys() - set(on):
                    self._stop_at(state, index, rung)
                going = on
        state.history = history(study, self._outcomes)
        self._choose(state)

    def _at(self, study: Study, index: int, rung: int, *, last: bool) -> float | None:
        """Return a trial's value at a rung, None until all of its cells have reached it."""
        found = []
        for cell in study.searches[index]:
            outcome = self._outcomes.get(cell.key)
            reached = self._reached.get(cell.key, {}).get(rung)
            found.append(outcome.at(rung, last=last) if outcome else reached)
        values = [value for value in found if value is not None]
        return mean_value(study.searches[index], values)[0] if len(values) == len(found) else None

    def _train_to(self, state: _StudyState, index: int, rung: int, *, last: bool) -> None:
        """Release those cells of a trial that have not reached a rung."""
        what, before = self._what(state, index), state.study.definition.rungs[:-1]
        for cell in state.study.searches[index]:
            if last or rung not in self._reached.get(cell.key, {}):
                self._release(Assignment(cell, what, None if last else rung, rungs=before))

    def _stop_at(self, state: _StudyState, index: int, rung: int) -> None:
        what, before = self._what(state, index), state.study.definition.rungs[:-1]
        for cell in state.study.searches[index]:
            self._release(Assignment(cell, what, rung, stops=True, rungs=before))

    def _what(self, state: _StudyState, index: int) -> Hyperparameters:
        """Return what a search index tries: what the ledger says of its cells, or what the study suggests."""
        if index not in state.tries:
            recorded = [
                self._outcomes[c.key].what for c in state.study.searches[index] if c.key in self._outcomes
            ]
            state.tries[index] = (
                recorded[0] if recorded else self._suggest(state.study.definition, state.history, index)
            )
        return state.tries[index]

"""The plan of a sweep as one state machine: which cell comes next, and which cells are left.

It knows no scheduler, tracker, storage or clock. It is told which cells are done and which failed, and asks
a study for its next lambda only when every earlier round of that study is done. So the lambdas do not depend
on the order in which cells happen to run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.planning.cells import FINAL, SEARCH, Cell, Cells, Definition, Study
from orchestrator.planning.specification import Weights
from orchestrator.planning.studies import History, Outcome, choose, tried

WAITING, READY, RUNNING, DONE, FAILED = "waiting", "ready", "running", "done", "failed"

Suggest = Callable[[Definition, History, int], Weights]


@dataclass(frozen=True)
class Assignment:
    """A cell to run now, with its weights."""

    cell: Cell
    aux_weights: Weights


@dataclass
class _StudyState:
    study: Study
    history: list[tuple[Weights, float]] = field(default_factory=list)
    opened: int = 0
    """How many search indices have been handed out."""
    chosen: Weights | None = None


class Plan:
    """The cells of a sweep as they are handed out: search cells first, since others wait for them."""

    def __init__(
        self,
        cells: Cells,
        suggest: Suggest,
        done: Mapping[str, Outcome] | None = None,
        *,
        retries: int = 3,
    ) -> None:
        """Start from what is done already, outcomes given by key."""
        self._cells = cells.all()
        self._suggest = suggest
        self._retries = retries
        self._status = {cell.key: WAITING for cell in self._cells}
        self._by_key = {cell.key: cell for cell in self._cells}
        self._outcomes: dict[str, Outcome] = {}
        self._errors: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._reached: dict[str, int] = {}
        """The most epochs that the ledger was seen to hold of each cell."""
        self._counts = Counter({WAITING: len(self._cells)})
        self._ready: dict[str, deque[str]] = {SEARCH: deque(), FINAL: deque()}
        self._studies = [_StudyState(study) for study in cells.studies]
        self._study_of = {
            cell.key: state for state in self._studies for row in state.study.searches for cell in row
        }
        self._weights: dict[str, Weights] = {}
        for key, outcome in (done or {}).items():
            if key in self._status:
                self._finish(key, outcome)
        for state in self._studies:
            self._advance(state)
        for cell, weights in cells.free.items():
            self._release(cell, weights)

    def next(self) -> Assignment | None:
        """Return the next cell to run, or None if none is ready (ask again once one is done)."""
        for phase in (SEARCH, FINAL):
            if self._ready[phase]:
                key = self._ready[phase].popleft()
                self._set(key, RUNNING)
                return Assignment(self._by_key[key], self._weights[key])
        return None

    def done(self, key: str, value: float | None = None) -> None:
        """Take the result of a running cell; `value` is a search cell's validation accuracy."""
        self._finish(key, Outcome(self._weights[key], value))
        state = self._study_of.get(key)
        if state is not None:
            self._advance(state)

    def progressed(self, key: str, epoch: int) -> None:
        """Take note that the ledger holds this many epochs of a running cell, and forgive earlier failures.

        So a long cell whose machines are taken away again and again is not given up as long as it advances;
        and since its epochs are finite, it is not tried for ever either.
        """
        if epoch > self._reached.get(key, 0):
            self._reached[key] = epoch
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

    def chosen(self) -> dict[str, Weights]:
        """Return the weights that each finished study chose, by the study's label."""
        return {s.study.label: s.chosen for s in self._studies if s.chosen is not None}

    def _set(self, key: str, status: str) -> None:
        self._counts[self._status[key]] -= 1
        self._counts[status] += 1
        self._status[key] = status

    def _finish(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        self._errors.pop(key, None)
        self._set(key, DONE)

    def _release(self, cell: Cell, weights: Weights) -> None:
        if self._status[cell.key] == WAITING:
            self._weights[cell.key] = weights
            self._make_ready(cell)

    def _make_ready(self, cell: Cell) -> None:
        self._set(cell.key, READY)
        self._ready[cell.phase].append(cell.key)

    def _advance(self, state: _StudyState) -> None:
        """Take the values that are complete, open the next round, and choose once all values are there."""
        rows = state.study.searches
        while len(state.history) < len(rows):
            result = tried(state.study, len(state.history), self._outcomes)
            if result is None:
                break
            state.history.append(result)
        if len(state.history) == len(rows):
            if state.chosen is None:
                state.chosen = choose(state.history)
                for cell in state.study.finals:
                    self._release(cell, state.chosen)
            return
        size = state.study.definition.search_round
        round_end = min((len(state.history) // size + 1) * size, len(rows))
        for index in range(state.opened, round_end):
            weights = self._weights_of(state, index)
            for cell in rows[index]:
                self._release(cell, weights)
        state.opened = max(state.opened, round_end)

    def _weights_of(self, state: _StudyState, index: int) -> Weights:
        """Return a search index's weights: the ledger's for one of its cells, or what the study suggests."""
        for cell in state.study.searches[index]:
            if cell.key in self._outcomes:
                return self._outcomes[cell.key].aux_weights
        return self._suggest(state.study.definition, state.history, index)

"""Which running cells stand still, judged by their signs of life.

It knows neither Ray nor a clock. Whoever collects the signs says how much time has passed in which signs
would have arrived; so a driver that was itself stopped accuses nobody when it wakes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.cli.times import duration
from trainables.mistake import counted

LEAST_SECONDS, SLOWEST_GAPS = 600.0, 20.0
"""Without a limit of the person's, a cell stands still after the larger of so many seconds and so many times
its slowest gap between two beats."""

STARTING_SECONDS = 180.0
"""What a cell that has its resources is given, at least, until its first sign: its processes are to start."""

QUIET_SECONDS = 180.0
"""After which a sweep in which nothing advances says what it waits for, and between two such lines."""

SILENT_SECONDS, UNHEARD_SECONDS = 5.0, 15.0
"""After which a process that gives no sign at all, not even that it is there, is the one to blame; and after
which it no longer counts as one that waits for the driver."""

REPORTING = "reporting to the driver"
"""The phase that takes as long as the driver does."""


@dataclass(frozen=True)
class Process:
    """A process of an attempt."""

    trial: str
    """The attempt's name: Tune's, or the cell's key where there is no Tune."""
    rank: int | None = None
    """Of several workers; None for the process that Tune started."""
    guards: bool = False
    """Whether it only looks after its workers, so that its own beats are no progress."""
    pid: int = 0
    started: str = ""
    """When it began, as its system says it: a pid alone may be another process's by now."""
    node: str = ""
    """Ray's id of the machine."""
    host: str = ""
    reserved: str = ""
    """Ray's id of the placement group in which it runs."""


@dataclass(frozen=True)
class Sign:
    """The latest that a process said of itself."""

    process: Process
    beats: int
    """How many it has given."""
    phase: str
    oom_kills: int = 0
    """How many processes the kernel has ended there for want of memory."""
    epoch: int = 0
    """The epoch that it is in or has last trained, 0 before the first."""
    images_per_second: float = 0.0
    """On how many images it has lately trained, auxiliary tasks apart."""


@dataclass(frozen=True)
class AtWork:
    """A cell that runs, with what its processes said last."""

    key: str
    label: str
    phase: str = "starting"
    epoch: int = 0
    images_per_second: float = 0.0
    """Of all workers together."""


@dataclass(frozen=True)
class Stall:
    """A cell that stands still."""

    trial: str
    label: str
    phase: str
    """What it was last known to do."""
    seconds: float
    where: str
    processes: tuple[Process, ...]

    @property
    def to_end(self) -> list[Process]:
        """Its processes, without the one that looks after workers: it frees what they had reserved."""
        working = [process for process in self.processes if not process.guards]
        return working or list(self.processes)

    def __str__(self) -> str:
        """Say what is known of it."""
        return f"no progress in {self.phase} for {duration(self.seconds)}, {self.where}"


@dataclass
class _Heard:
    """What is known of a process: its latest sign, when it came, and when it last brought more beats."""

    sign: Sign
    at: float
    advanced: float


@dataclass
class _Trial:
    key: str
    label: str
    advanced: float
    """When it last advanced or, until then, when it was handed out or last waited for its resources."""
    started: bool = False
    heard: dict[Process, _Heard] = field(default_factory=dict)
    stall: Stall | None = None


Method = TypeVar("Method", bound=Callable[..., Any])


def _one_at_a_time(method: Method) -> Method:
    """Let a method run in one thread at a time."""

    @functools.wraps(method)
    def locked(self: Watchdog, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked  # type: ignore[return-value]


class Watchdog:
    """Judges by signs of life which cells stand still; several threads may tell and ask it."""

    def __init__(self, stall_seconds: float) -> None:
        """Take the limit in seconds: 0 for none, less for one that suits each cell's pace."""
        self._limit = stall_seconds
        self._now = 0.0
        self._trials: dict[str, _Trial] = {}
        self._slowest: dict[str, float] = {}
        """The slowest gap between beats so far, by the cell's key."""
        self._advanced = self._spoke = 0.0
        self._lock = threading.RLock()

    @_one_at_a_time
    def began(self, trial: str, key: str, label: str) -> None:
        """Take note that a cell was handed out; its resources may not be there yet."""
        self._trials[trial] = _Trial(key, label, self._now)

    @_one_at_a_time
    def ended(self, trial: str) -> Stall | None:
        """Take note that a trial has ended; return its stall if it was found to stand still."""
        self._advanced = self._now
        known = self._trials.pop(trial, None)
        return None if known is None else known.stall

    @_one_at_a_time
    def heard(self, sign: Sign) -> None:
        """Take a sign of life."""
        trial = self._trials.get(sign.process.trial)
        if trial is None:
            return
        before = trial.heard.get(sign.process)
        more = (before is None or sign.beats > before.sign.beats) and not sign.process.guards
        advanced = self._now if more or before is None else before.advanced
        trial.heard[sign.process] = _Heard(sign, self._now, advanced)
        if more:
            if trial.started:
                gap = self._now - trial.advanced
                self._slowest[trial.key] = max(gap, self._slowest.get(trial.key, 0.0))
            trial.started, trial.advanced, self._advanced = True, self._now, self._now

    @_one_at_a_time
    def pass_time(self, seconds: float, *, waiting: bool = False) -> None:
        """Let time pass; `waiting`: those that have not started wait for resources, which is no fault."""
        self._now += seconds
        for trial in self._trials.values():
            if waiting and not trial.started:
                trial.advanced = self._now
        if waiting:
            self._advanced = self._now

    @_one_at_a_time
    def knows(self, trial: str) -> bool:
        """Whether a trial was handed out and has not ended."""
        return trial in self._trials

    @_one_at_a_time
    def started(self, trial: str) -> bool:
        """Whether a trial has begun to work, or has ended."""
        known = self._trials.get(trial)
        return known is None or known.started

    @property
    @_one_at_a_time
    def not_started(self) -> int:
        """How many cells were handed out and have not begun to work."""
        return sum(not trial.started for trial in self._trials.values())

    def limit(self, key: str) -> float:
        """Return after how many seconds without progress a cell stands still."""
        if self._limit >= 0:
            return self._limit
        return max(LEAST_SECONDS, SLOWEST_GAPS * self._slowest.get(key, 0.0))

    @_one_at_a_time
    def stalled(self) -> list[Stall]:
        """Return the cells that are found to stand still, once each, and have processes that can be ended."""
        found = []
        for name, trial in self._trials.items():
            limit, still = self._limit_of(trial), self._now - trial.advanced
            if trial.stall is None and limit and still > limit and trial.heard and not self._reports(trial):
                trial.stall = self._stall(name, trial, still)
                found.append(trial.stall)
                if (
                    self._limit < 0
                ):  # it may have been at one long piece of work: its next try gets twice as long
                    self._slowest[trial.key] = max(
                        self._slowest.get(trial.key, 0.0), 2 * still / SLOWEST_GAPS
                    )
        return found

    @_one_at_a_time
    def last_signs(self, trial: str) -> list[Sign]:
        """Return the latest sign of each process of a trial."""
        known = self._trials.get(trial)
        return [] if known is None else [each.sign for each in known.heard.values()]

    @_one_at_a_time
    def at_work(self) -> list[AtWork]:
        """Return the cells that were handed out, the oldest first."""
        found = []
        for trial in self._trials.values():
            signs = [each.sign for process, each in trial.heard.items() if not process.guards]
            first = max(signs, key=lambda sign: sign.epoch, default=None)
            speed = sum(sign.images_per_second for sign in signs)
            found.append(
                AtWork(trial.key, trial.label, first.phase, first.epoch, speed)
                if first
                else AtWork(trial.key, trial.label)
            )
        return found

    @_one_at_a_time
    def quiet(self) -> str | None:
        """Return, now and then, what a sweep waits for in which nothing has advanced for some minutes."""
        silent = self._now - self._advanced
        if silent < QUIET_SECONDS or self._now - self._spoke < QUIET_SECONDS:
            return None
        self._spoke = self._now
        if not self._trials:
            return f"Nothing has happened for {duration(silent)}: no cell is running."
        first, *others = sorted(self._trials.items(), key=lambda item: item[1].advanced)
        stall = self._stall(*first, self._now - first[1].advanced)
        more = f", and {counted(len(others), 'other cell')} as well" if others else ""
        limit = self._limit_of(first[1])
        fate = f"; it is ended after {duration(limit)}" if limit and first[1].heard else ""
        return f"Nothing has advanced for {duration(silent)}: {stall.label} shows {stall}{more}{fate}."

    def _limit_of(self, trial: _Trial) -> float:
        limit = self.limit(trial.key)
        return limit if trial.started or not limit else max(limit, STARTING_SECONDS)

    def _reports(self, trial: _Trial) -> bool:
        """Whether a trial waits for the driver."""
        return any(
            each.sign.phase == REPORTING and self._now - each.at < UNHEARD_SECONDS
            for each in trial.heard.values()
        )

    def _stall(self, name: str, trial: _Trial, seconds: float) -> Stall:
        """Describe a trial by its process that is silent or, if all speak, the one furthest behind."""
        processes = tuple(trial.heard)
        working = [each for process, each in trial.heard.items() if not process.guards]
        if not working:
            hosts = ", ".join(dict.fromkeys(each.host for each in processes))
            where = f"on {hosts}" if hosts else "not heard of yet"
            return Stall(name, trial.label, "starting", seconds, where, processes)
        culprit = min(working, key=lambda each: each.at)
        if self._now - culprit.at < SILENT_SECONDS:
            culprit = min(working, key=lambda each: each.advanced)
            silent = ""
        else:
            silent = ", which gives no sign of life"
        process = culprit.sign.process
        who = "" if process.rank is None else f"worker {process.rank} "
        return Stall(
            name, trial.label, culprit.sign.phase, seconds, f"{who}on {process.host}{silent}", processes
        )

"""What disturbs a sweep, and when: a pure function of a seed.

Moments are counted in events, the n-th write of a kind of file above all, and not in seconds, so that a seed
does the same again on another machine.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass

BEFORE, DURING, AFTER = "before", "during", "after"

WRITES = {
    "sweep": 1,
    "identity": 1,
    "cell": 8,
    "attempt": 16,
    "checkpoint": 16,
    "curves": 24,
    "scores": 4,
    "window": 4,
    "weights": 4,
    "result": 8,
    "report": 7,
}
"""How often an undisturbed sweep writes a kind of file; a moment beyond that never comes."""

TRACKING = {"create_run": 9, "log_batch": 33, "set_terminated": 9, "search_runs": 2, "log_artifacts": 1}
"""How often an undisturbed sweep calls MLflow."""

BEATS = 400
"""About how often the work in cells gives a sign of life."""

WORKER, COMMAND, GROUP = "worker", "command", "group"
"""What a signal is sent to: the process that works, the one that was started and looks after it, or both."""

IN_CELLS = ("cell", "checkpoint", "curves", "scores", "window", "weights", "result")
"""Kinds of which every cell has its own; they are written by an attempt."""

KILL, STOP_AND_GO, STOP_AND_KILL, STOP_BESIDE_ANOTHER = "kill", "stop-go", "stop-kill", "stop-beside-another"
STOPS = (STOP_AND_GO, STOP_AND_KILL, STOP_BESIDE_ANOTHER)
SIGNALS = {"SIGINT": 2, "SIGTERM": 15, "SIGHUP": 1}
FAIL, STALL, POWER_CUT, CLOCK, LOCKED = "fail", "stall", "power-cut", "clock", "database-locked"
UNANSWERED, FULL_DISK = "unanswered", "full-disk"

LIKELY = {
    KILL: 6,
    STOP_AND_GO: 2,
    STOP_AND_KILL: 2,
    STOP_BESIDE_ANOTHER: 1,
    **{"SIGINT": 2, "SIGTERM": 2, "SIGHUP": 1},
    FAIL: 3,
    STALL: 1,
    POWER_CUT: 2,
    CLOCK: 1,
    LOCKED: 1,
    UNANSWERED: 2,
    FULL_DISK: 2,
}
"""How likely each fault is, in parts."""

DAMAGES = ("cut", "flip", "empty", "delete")
DAMAGED = ("cell", "checkpoint", "curves", "scores", "window", "result", "identity", "sweep", "attempt")
"""Kinds of files that are damaged between two runs."""

PLUGIN_FAULTS = ("raise", "sys.exit", "os._exit", "hang")
TRIAL, TRAIN_WORKER, RAYLET, GCS = "trial", "train worker", "raylet", "gcs"
"""Ray's processes that are struck, beside WORKER, COMMAND and GROUP."""
ON_RAY, TWO_WORKERS = "ray", "two workers"
"""Variants on Ray."""
NAN = ("nan-loss", "nan-validation", "nan-scoring")
PLAIN = "plain"


@dataclass(frozen=True)
class Moment:
    """The n-th event of a kind: before it, halfway through it, or after it."""

    kind: str
    nth: int
    phase: str

    def __str__(self) -> str:
        return f"{self.phase} {self.kind} {self.nth}"


@dataclass(frozen=True)
class Fault:
    """Something that strikes a process of a sweep at a moment."""

    what: str
    moment: Moment
    amount: float = 0.0
    """Seconds of a pause or of a jump of the clock, or how many calls fail."""
    code: int = 0
    """The errno of a call that fails."""
    target: str = WORKER
    """What a signal is sent to."""

    def __str__(self) -> str:
        detail = f" {errno.errorcode[self.code]} x{self.amount:g}" if self.code else ""
        jump = f" {self.amount:+g} s" if self.what == CLOCK else ""
        target = f" of the {self.target}" if self.what in (KILL, *SIGNALS) else ""
        return f"{self.what}{target}{detail}{jump} {self.moment}"


@dataclass(frozen=True)
class RayFault:
    """Something that strikes a process of a sweep on Ray once its folder holds so many files of a kind."""

    what: str
    target: str
    kind: str
    count: int
    seconds: float = 0.0
    """For how long a process is suspended."""

    def __str__(self) -> str:
        pause = f" for {self.seconds:g} s" if self.what == STOP_AND_GO else ""
        return f"{self.what} of the {self.target}{pause} after {self.kind} {self.count}"


@dataclass(frozen=True)
class Damage:
    """Something that happens to a file while no sweep runs."""

    kind: str
    how: str
    choice: float
    """Which file of the kind, and which of its bytes, as a share from 0 to 1."""

    def __str__(self) -> str:
        return f"{self.how} a file of {self.kind}"


@dataclass(frozen=True)
class Round:
    """A start of the command, what strikes it, and what happens to its files after it ended."""

    faults: tuple[Fault, ...] = ()
    on_ray: tuple[RayFault, ...] = ()
    damages: tuple[Damage, ...] = ()
    drivers: int = 1
    """How many are started at once."""

    def __str__(self) -> str:
        parts = [f"{self.drivers} drivers at once"] if self.drivers > 1 else []
        return ", ".join([*parts, *map(str, (*self.faults, *self.on_ray, *self.damages))]) or "undisturbed"


@dataclass(frozen=True)
class Schedule:
    """What one seed does to a sweep before it may end in peace."""

    seed: int
    variant: str
    """PLAIN, one of NAN, "plugin-" and one of PLUGIN_FAULTS, or one on Ray."""
    rounds: tuple[Round, ...]

    def __str__(self) -> str:
        rounds = "; ".join(map(str, self.rounds))
        return rounds if self.variant == PLAIN else f"{self.variant}: {rounds}"


def schedule(seed: int) -> Schedule:
    """Return what a seed does to a sweep in one process."""
    rng = random.Random(f"inline {seed}")
    variant = PLAIN
    if rng.random() < 0.25:
        variant = rng.choice([*NAN, *(f"plugin-{name}" for name in PLUGIN_FAULTS)])
    return Schedule(seed, variant, tuple(_round(rng) for _ in range(rng.randint(1, 3))))


def full_disk_schedules() -> list[Schedule]:
    """Return a schedule for each kind of write, before one of which the disk is full from then on."""
    kinds = {**WRITES, **TRACKING}
    faults = [Fault(FULL_DISK, Moment(kind, (1 + count) // 2, BEFORE)) for kind, count in kinds.items()]
    return [Schedule(number, PLAIN, (Round((fault,)),)) for number, fault in enumerate(faults)]


def ray_schedule(seed: int) -> Schedule:
    """Return what a seed does to a sweep on Ray, from outside."""
    rng = random.Random(f"ray {seed}")
    variant = TWO_WORKERS if rng.random() < 0.2 else ON_RAY
    rounds = tuple(Round(on_ray=(_ray_fault(rng, variant),)) for _ in range(rng.randint(1, 2)))
    return Schedule(seed, variant, rounds)


def _ray_fault(rng: random.Random, variant: str) -> RayFault:
    targets = (TRIAL, TRIAL, WORKER, COMMAND, GROUP, RAYLET, GCS)
    if variant == TWO_WORKERS:
        targets = (TRAIN_WORKER, TRAIN_WORKER, TRIAL, WORKER, RAYLET)
    target = rng.choice(targets)
    choices = (KILL, KILL, STOP_AND_GO, STOP_AND_KILL)
    if target in (COMMAND, GROUP):
        choices = (KILL, *SIGNALS)
    kind = "checkpoint" if variant == TWO_WORKERS else rng.choice(("cell", "result", "checkpoint"))
    count = 1 if kind == "checkpoint" else rng.randint(1, 5)
    return RayFault(rng.choice(choices), target, kind, count, rng.choice((0.5, 3.0)))


def _round(rng: random.Random) -> Round:
    if rng.random() < 0.1:
        return Round(drivers=2, damages=_damages(rng))
    return Round(tuple(_fault(rng) for _ in range(rng.randint(1, 2))), damages=_damages(rng))


def _damages(rng: random.Random) -> tuple[Damage, ...]:
    count = rng.choices((0, 1, 2), (6, 3, 1))[0]
    return tuple(Damage(rng.choice(DAMAGED), rng.choice(DAMAGES), rng.random()) for _ in range(count))


def _moment(rng: random.Random, kinds: dict[str, int]) -> Moment:
    kind = rng.choice(sorted(kinds))
    nth = 1 + int(kinds[kind] * rng.random() ** 2)  # rather an early one: later rounds have less left to do
    return Moment(kind, nth, rng.choice((BEFORE, DURING, AFTER)))


def _fault(rng: random.Random) -> Fault:
    what = rng.choices(list(LIKELY), list(LIKELY.values()))[0]
    if what == UNANSWERED:
        moment = _moment(rng, TRACKING)
        return Fault(what, Moment(moment.kind, moment.nth, rng.choice((BEFORE, AFTER))), amount=1)
    if what == FULL_DISK:
        return Fault(what, Moment(rng.choice((*IN_CELLS, "report")), rng.randint(1, 8), BEFORE))
    everything = {**WRITES, **TRACKING, "beat": BEATS} if what in (KILL, *STOPS, *SIGNALS) else WRITES
    moment = _moment(rng, everything)
    if what == FAIL:
        code = rng.choice((errno.EIO, errno.ETIMEDOUT, errno.EACCES, errno.ENOSPC))
        return Fault(
            what, Moment(moment.kind, moment.nth, rng.choice((BEFORE, DURING))), rng.randint(1, 3), code
        )
    target = rng.choice((WORKER, COMMAND, GROUP) if what == KILL else (COMMAND, GROUP))
    amount = {STALL: 0.5, CLOCK: rng.choice((-3600.0, 3600.0)), LOCKED: rng.choice((0.5, 7.0))}.get(what, 0.0)
    return Fault(what, moment, amount, target=target)

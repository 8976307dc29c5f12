"""One schedule from its first driver to the comparison with the undisturbed sweep."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import checks
from tests.faults.processes import LIMIT, Driver, Ended, adopt_orphans, fork, mount_small_disk, orphans, wait
from tests.faults.ray_strikes import Watch
from tests.faults.schedules import (
    FULL_DISK,
    NAN,
    ON_RAY,
    PLAIN,
    POWER_CUT,
    SIGNALS,
    TWO_WORKERS,
    Damage,
    Round,
    Schedule,
)
from tests.faults.strikes import FILLER, kind_of

NAME = "digits"
SPECIFICATION = ("--holdouts", "3", "--seeds", "1", "--lambda-trials", "2", "--name", NAME)
SETTINGS = ("--set", "epochs=3", "ap_window=2", "train_fraction=0.1", "checkpoint_seconds=0")
PLUGIN = str(Path(__file__).parent / "plugin.py")
TWO_CLASSES = ("--holdouts", "8")
"""One more."""
SMALLER = ("--methods", "classification")
"""A group of workers takes ten seconds to start."""
RAY_LIMIT = 480.0
WITH_FIGURES = 5
"""Every so many seeds the report has figures."""
TRIES = 5
"""How often the command is given again in peace."""
DISK_MEGABYTES = 48


def words_of(variant: str, storage: Path) -> list[str]:
    """Return the command line of a variant's sweep."""
    if variant in (ON_RAY, TWO_WORKERS):
        words = [*SPECIFICATION, *SETTINGS, "--storage", str(storage), "--max-concurrent", "2"]
        return [*words, *(("--workers", "2", *SMALLER) if variant == TWO_WORKERS else TWO_CLASSES)]
    words = [*SPECIFICATION, *TWO_CLASSES, "--storage", str(storage), "--executor", "inline", *SETTINGS]
    if variant == PLAIN:
        return words
    if variant in NAN and variant != "nan-scoring":
        return [*words, "--plugin", PLUGIN, "--methods", "classification", "fragile"]
    return [*words, "--plugin", PLUGIN, "--detectors", "msp", "troubled"]


def limit_of(variant: str) -> float:
    """Return after how many seconds a start of a variant's command hangs."""
    return RAY_LIMIT if variant in (ON_RAY, TWO_WORKERS) else LIMIT


def undisturbed_of(variant: str) -> str:
    """Return the variant to compare with: trouble that passes must leave no trace."""
    return "plugin" if variant.startswith("plugin-") else variant


@dataclass
class Undisturbed:
    """A variant's sweep that nothing disturbed."""

    storage: Path
    code: int


@dataclass
class Outcome:
    """What came of a schedule."""

    seed: int
    findings: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    """Of starts with a full disk: the exit code and the last words."""
    starts: int = 0
    seconds: float = 0.0


def run_undisturbed(variant: str, folder: Path, template: Path) -> Undisturbed:
    """Run a variant's sweep in peace."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    if template.exists():
        shutil.copy(template, storage / "mlflow.db")
    trouble = variant if variant in NAN else ""
    environment = {"FAULTS_TROUBLE": trouble}
    driver = Driver(words_of(variant, storage), folder, storage, environment, limit=limit_of(variant))
    ended = wait(fork(driver), driver)
    if ended.code not in (0, 1) or not (storage / NAME / "report/table.csv").exists():
        raise RuntimeError(f"the undisturbed sweep {variant} ended with {ended}: see {folder}")
    return Undisturbed(storage, ended.code)


ORPHAN_SECONDS = 90
"""After a kill -9 of a command nobody ends Ray's processes but they themselves. Its agents first try, for a
minute, to tell it to a GCS that is gone."""


class Trial:
    """A schedule that is being carried out, in a process that adopts all that it starts."""

    def __init__(self, schedule: Schedule, undisturbed: Undisturbed, folder: Path, template: Path) -> None:
        self._schedule = schedule
        self._undisturbed = undisturbed
        self._folder = folder
        self._storage = folder / "storage"
        self._outcome = Outcome(schedule.seed)
        self._damaged = False
        adopt_orphans()
        faults = [fault for each in schedule.rounds for fault in each.faults]
        if any(fault.what == FULL_DISK for fault in faults) and not mount_small_disk(
            self._storage, DISK_MEGABYTES
        ):
            self._outcome.struck.append("skipped: a full disk needs root")
        self._storage.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, self._storage / "mlflow.db")

    @property
    def _sweep(self) -> Path:
        return self._storage / NAME

    def run(self) -> Outcome:
        """Carry the schedule out and return what came of it."""
        began = time.monotonic()
        for number, each in enumerate(self._schedule.rounds):
            self._round(number, each)
        self._end_in_peace()
        self._compare()
        struck = self._folder / "struck"
        self._outcome.struck += struck.read_text().splitlines() if struck.exists() else []
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    def _found(self, what: str) -> None:
        self._outcome.findings.append(what)

    def _driver(self, number: int, faults: Round | None = None) -> Driver:
        variant = self._schedule.variant
        passes = faults is None and variant not in NAN
        environment = {
            "FAULTS_TROUBLE": "" if passes else variant,
            "FAULTS_MARK": str(self._folder / "mark"),
        }
        words = words_of(self._schedule.variant, self._storage)
        struck_by = faults.faults if faults else ()
        limit, figures = limit_of(variant), self._schedule.seed % WITH_FIGURES == 0
        return Driver(words, self._folder, self._storage, environment, struck_by, number, limit, figures)

    def _round(self, number: int, each: Round) -> None:
        drivers = [
            self._driver(100 * (copy + 1) + number, each if not copy else None)
            for copy in range(each.drivers)
        ]
        processes = [fork(driver) for driver in drivers]
        mark = self._folder / "mark" if self._schedule.variant == "plugin-hang" else None
        watch = Watch(each.on_ray, self._sweep, self._folder / "struck") if each.on_ray else None
        ended = [wait(p, d, mark, watch) for p, d in zip(processes, drivers, strict=True)]
        self._outcome.starts += len(drivers)
        for driver, one in zip(drivers, ended, strict=True):
            self._judge(driver, one, each)
            if any(fault.what == FULL_DISK for fault in each.faults) and (self._storage / FILLER).exists():
                self._outcome.ends.append(f"exit code {one.code}: {self._last_words(driver)}")
                if one.code not in (1, 2) and not self._all_done():
                    self._found(f"with a full disk it ended with {one.code}")
        self._no_orphans()
        (self._storage / FILLER).unlink(missing_ok=True)
        for damage in each.damages:
            self._damage(damage)

    def _judge(self, driver: Driver, ended: Ended, each: Round) -> None:
        """Note an end that is not as it should be."""
        struck = driver.struck.read_text() if driver.struck.exists() else ""
        faults = [*each.faults, *each.on_ray]
        signals = [SIGNALS[f.what] for f in faults if f.what in SIGNALS and str(f) in struck]
        allowed = {0, 1, 2, -9, *(128 + number for number in signals)}
        if each.on_ray:  # from outside it may come before the command is ready for it
            allowed |= {-number for number in signals}
        if ended.hung:
            self._found(f"start {driver.number} hung")
        elif ended.code not in allowed:
            self._found(f"start {driver.number} ended with {ended.code}")
        if ended.beside not in (None, 2):
            self._found(f"a driver beside a suspended one ended with {ended.beside}")
        self._no_traceback(driver)

    def _no_traceback(self, driver: Driver) -> None:
        said = _said(driver)
        if "Traceback (most recent call last)" in said:
            self._found(f"start {driver.number} printed a traceback: {said.strip().splitlines()[-1][:200]}")

    def _no_orphans(self) -> None:
        for command in orphans(ORPHAN_SECONDS):
            self._found(f"orphaned: {command}")

    def _damage(self, damage: Damage) -> None:
        found = sorted(path for path in self._sweep.rglob("*") if kind_of(str(path)) == damage.kind)
        if not found:
            return
        path = found[int(damage.choice * len(found))]
        data = path.read_bytes()
        if damage.kind == "sweep":
            shutil.copy(path, self._folder / "sweep.json")
        place = int(damage.choice * len(data) * 7919) % max(len(data), 1)
        if damage.how == "delete":
            path.unlink()
        elif damage.how == "cut":
            path.write_bytes(data[:place])
        elif damage.how == "empty":
            path.write_bytes(b"")
        elif data:
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        self._damaged = True
        with (self._folder / "struck").open("a") as log:
            log.write(f"{damage} ({path.relative_to(self._sweep)}, byte {place} of {len(data)})\n")

    def _all_done(self) -> bool:
        """Return whether every cell of the undisturbed sweep is done in this one."""
        done = [
            len(list(s.glob("cells/*/result.json"))) for s in (self._undisturbed.storage / NAME, self._sweep)
        ]
        return done[0] == done[1]

    def _end_in_peace(self) -> None:
        for number in range(900, 900 + TRIES):
            driver = self._driver(number)
            ended = wait(fork(driver), driver)
            self._outcome.starts += 1
            self._judge(driver, ended, Round())
            self._no_orphans()
            if ended.code == self._undisturbed.code:
                return
            if ended.code == 2 and (self._folder / "sweep.json").exists():
                self._restore()
        self._found(f"it still ends with {ended.code} after {TRIES} starts: {self._last_words(driver)}")

    def _restore(self) -> None:
        """Put the file back that a sweep cannot do without, as its error asks for."""
        self._sweep.mkdir(exist_ok=True)
        shutil.copy(self._folder / "sweep.json", self._sweep / "sweep.json")

    def _last_words(self, driver: Driver) -> str:
        printed = [
            path.read_text().strip() for path in (driver.output("out"), driver.output("err")) if path.exists()
        ]
        lines = next((text for text in printed if text), "nothing was said").splitlines()
        return lines[-1][:300]

    def _compare(self) -> None:
        for found in self._differences():
            self._found(found)

    def _differences(self) -> Iterator[str]:
        before = self._undisturbed.storage
        yield from checks.differences(before / NAME, self._sweep)
        power_cut = any(fault.what == POWER_CUT for each in self._schedule.rounds for fault in each.faults)
        damaged = self._damaged or power_cut
        yield from checks.tracked_differently(before, self._storage, damaged=damaged)
        temporary = self._driver(0).temporary
        yield from checks.left_behind(self._storage, self._sweep, temporary, damaged=damaged)
        shutil.rmtree(temporary, ignore_errors=True)
        yield from checks.attempts_left_open(self._sweep, damaged=damaged)


def _said(driver: Driver) -> str:
    """Return what a command has printed; one that was killed at once has not even opened its files."""
    paths = [driver.output("out"), driver.output("err")]
    return "".join(path.read_text() for path in paths if path.exists())


def carry_out(schedule: Schedule, undisturbed: Undisturbed, folder: Path, template: Path) -> Outcome:
    """Carry out a schedule in this process, which must be one of its own."""
    folder.mkdir(parents=True)
    os.environ["FAULTS_SEED"] = str(schedule.seed)
    return Trial(schedule, undisturbed, folder, template).run()

"""Whether a sweep's ledger is whole and true to itself: every cell once, every file as it was written.

Nothing is written. Each finding is a sentence and, where one mends it, a command.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.cli.next_commands import repair_command, resume_command
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.later_scores import counted_later, counted_sets
from orchestrator.ledger.ledger import (
    CELL,
    CELLS,
    CURVES,
    DETECTORS,
    IMAGE_SETS,
    LATER_SETS,
    RESULT,
    SCORES,
    THREADS,
    Ledger,
)
from orchestrator.planning.cells import SEARCH, Cell, run_of
from orchestrator.planning.halving import stopped
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.request import Request
from orchestrator.reporting import recomputed
from orchestrator.reporting.report import Report
from orchestrator.reporting.results import DONE, Results, Selection
from trainables.mistake import counted

NAMED = 5
"""Most names in a list; it counts the others."""
HALF_WRITTEN = ".part"
OF_A_CELL = re.compile(
    r"(cell|result|rung-[0-9]+)\.json|(curves|scores|window)\.parquet|weights\.safetensors|checkpoint/[0-9]+-[0-9]+\.pt"
    r"|attempts/[0-9]+\.json|(detectors|ood/later)/[^/]+\.(json|parquet)|ood/[^/]+\.parquet"
)
"""Files that a cell may have, within its folder."""
OF_A_SWEEP = re.compile(
    r"sweep\.json|sweep\.toml|identity|lock|lock\.json|owner\.json|(report|plugins|damaged|ray)/.+"
)
"""Files that a sweep may have beside its cells."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and the command that mends it."""

    kind: str
    sentence: str
    command: str | None = None
    damages: tuple[Damage, ...] = ()
    """What --repair moves aside."""
    in_tracking: bool = False
    """Whether it is of MLflow's records."""


@dataclass
class Findings:
    """What was looked at, what is wrong, and what is merely worth knowing."""

    files: int = 0
    """How many files there are that are as they were written, so far as they vouch for themselves."""
    numbers: int = 0
    """How many stated values were computed again."""
    points: int = 0
    """How many values MLflow has."""
    found: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __iadd__(self, other: Findings) -> Findings:
        """Add those of another part."""
        self.files += other.files
        self.numbers += other.numbers
        self.found += other.found
        self.notes += other.notes
        return self


def verify_ledger(report: Report, *, driven: bool) -> Findings:
    """Return what is wrong with a sweep's files; while it is driven, what is not done yet is a note."""
    results = report.results
    ledger = results.ledger
    by_cell, beside = _by_cell(ledger)
    commands = _Commands(report.request, ledger.name)
    findings = _about_missing(report, driven=driven)
    cells = {cell.key: cell for cell in results.cells.all()}
    damaged = ledger.damaged(cells)
    findings.files = len(beside) + sum(map(len, by_cell.values())) - len(damaged)
    findings.found += [_about_damage(each, cells, commands) for each in damaged]
    sound = [cell for key, cell in cells.items() if key in results.done - {each.key for each in damaged}]
    checks = [_CellCheck(results, cell, by_cell.get(cell.key, []), commands) for cell in sound]
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda check: check.run(), checks):
            findings += found
    findings += _about_strangers(ledger, results, by_cell, beside, commands, driven=driven)
    if not report.sound:
        findings.found.append(Finding("leak", report.verdict.sentence))
    doubtful = {damage.key for finding in findings.found for damage in finding.damages if damage.key}
    findings.found += _about_lambda(results, commands, doubtful)
    findings.found += _about_rungs(results, commands, doubtful)
    return findings


def _about_damage(damage: Damage, cells: Mapping[str, Cell], commands: _Commands) -> Finding:
    """Return a damaged file as a finding; of sweep.json there is nothing to move."""
    top, _, rest = damage.path.partition("/")
    key, _, name = rest.partition("/")
    where = f"{name} of {cells[key].label}" if top == CELLS and key in cells else damage.path
    return Finding("damaged", f"{where} {damage.problem}.", commands.repair, (damage,))


@dataclass(frozen=True)
class _Commands:
    """The commands that mend."""

    request: Request
    name: str

    @property
    def repair(self) -> str:
        return repair_command(self.request, self.name)

    @property
    def resume(self) -> str:
        return resume_command(self.request, self.name)


def _by_cell(ledger: Ledger) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files of each cell's folder, within it, by key; and the others, within the sweep's."""
    by_cell: dict[str, list[str]] = {}
    beside = []
    for path in ledger.every_file():
        top, _, rest = path.partition("/")
        key, _, name = rest.partition("/")
        if top == CELLS and name:
            by_cell.setdefault(key, []).append(name)
        else:
            beside.append(path)
    return by_cell, beside


def _about_missing(report: Report, *, driven: bool) -> Findings:
    """Return which cells are not done."""
    left = [cell.label for cell, state in report.results.states.items() if state != DONE]
    if not left:
        return Findings()
    of = counted(len(report.results.states), "cell")
    sentence = f"{len(left)} of {of} {_are(left)} not done: {_listed(left)}."
    if driven:
        return Findings(notes=[f"The sweep is running: {sentence}"])
    command = resume_command(report.request, report.results.ledger.name)
    return Findings(found=[Finding("not-done", sentence, command)])


class _CellCheck:
    """The check of a cell whose files are whole: that they are the plan's, and that its numbers follow."""

    def __init__(self, results: Results, cell: Cell, names: Sequence[str], commands: _Commands) -> None:
        self._results, self._cell, self._names, self._commands = results, cell, sorted(names), commands
        self._tables: dict[str, pa.Table | None] = {}
        self._findings = Findings()

    def run(self) -> Findings:
        """Return the findings; none if the cell is not done any more."""
        ledger, key = self._results.ledger, self._cell.key
        result, about = ledger.read_result(key), ledger.read_cell(key)
        if result is not None and self._check_about(about, result):
            self._check_numbers(result)
        return self._findings

    def _table(self, name: str) -> pa.Table | None:
        """Return a table of the cell, read once; None if it is not there."""
        if name not in self._tables:
            try:
                data = self._results.ledger.read_file(CELLS, self._cell.key, name)
                self._tables[name] = pq.read_table(pa.BufferReader(data))
            except FileNotFoundError:
                self._tables[name] = None
        return self._tables[name]

    def _wrong(self, kind: str, words: str, name: str, *, again: bool = True) -> None:
        """Add a finding; to move its file aside makes the whole cell run again, or not."""
        path = f"{CELLS}/{self._cell.key}/{name}"
        damage = Damage(path, words, self._cell.key if again else None)
        sentence = f"{name} of {self._cell.label} {words}."
        self._findings.found.append(Finding(kind, sentence, self._commands.repair, (damage,)))

    def _check_about(self, about: Json, result: Json) -> bool:
        """Check that cell.json is of this cell of the plan; return whether it is."""
        cell, specification = self._cell, self._results.specification
        if about.get("cell") != dataclasses.asdict(cell) or result["phase"] != cell.phase:
            self._wrong("foreign", "describes another cell", CELL)
            return False
        planned = _plain(dataclasses.asdict(run_of(cell, specification, Hyperparameters.of(result))))
        odd = [
            f"{name} was {stated!r}, and the plan says {wanted!r}"
            for name, stated, wanted in _unequal(about.get("run", {}), planned)
        ]
        if odd:
            self._wrong("foreign", f"describes another run: {_listed(odd, '; ')}", CELL)
        return not odd

    def _check_numbers(self, result: Json) -> None:
        """Check what is stated against scores and curves, which may lack what they are to have."""
        for check, name in ((self._check_values, RESULT), (self._check_later, SCORES)):
            try:
                check(result)
            except (KeyError, TypeError, ValueError) as error:  # pyarrow's are among them
                self._wrong("numbers", f"cannot be checked, since its tables lack something ({error})", name)

    def _check_values(self, result: Json) -> None:
        """Check the stated values against scores and curves."""
        values, curves = result["values"], (self._table(CURVES) or pa.table({})).to_pylist()
        if self._cell.phase == SEARCH:
            again = recomputed.of_search(values, curves)
            self._compare(RESULT, *recomputed.of_rungs(result, curves))
        else:
            scores, window = self._table(SCORES), self._results.specification.recipe.ap_window
            again = recomputed.of_final(values, scores, curves, window)
            for name in result["checksums"]:
                beside = self._table(name) if name.startswith(f"{IMAGE_SETS}/") else None
                if scores is not None and beside is not None:
                    image_set = name.removeprefix(f"{IMAGE_SETS}/").removesuffix(".parquet")
                    again |= recomputed.of_image_set(image_set, scores, beside)
        self._compare(RESULT, values, again)

    def _check_later(self, result: Json) -> None:
        """Check the metrics of what came later and counts against its scores."""
        ledger, key, scores = self._results.ledger, self._cell.key, self._table(SCORES)
        if scores is None:
            return
        for folder, counted_of in ((DETECTORS, counted_later), (LATER_SETS, counted_sets)):
            if not any(name.startswith(f"{folder}/") for name in self._names):
                continue
            for name, record in counted_of(result, ledger.read_later(key, folder)).items():
                table = self._table(f"{folder}/{name}.parquet")
                if table is not None:
                    of_set = folder == LATER_SETS
                    again = recomputed.of_later(name, scores, table, image_set=of_set)
                    tolerance = recomputed.OF_ANOTHER_PASS if of_set else recomputed.TOLERANCE
                    self._compare(f"{folder}/{name}.json", record["metrics"], again, tolerance)

    def _compare(
        self,
        name: str,
        stated: Json,
        again: Mapping[str, float],
        tolerance: float = recomputed.TOLERANCE,
    ) -> None:
        self._findings.numbers += len(again.keys() & stated.keys())
        different = recomputed.differing(stated, again, tolerance)
        if different:
            self._wrong("numbers", f"is wrong: {_listed(different, '; ')}", name, again=name == RESULT)


def _about_strangers(
    ledger: Ledger,
    results: Results,
    by_cell: Mapping[str, Sequence[str]],
    beside: Iterable[str],
    commands: _Commands,
    *,
    driven: bool,
) -> Findings:
    """Return what belongs to no cell of the plan: half-written files, copies, other specifications' cells."""
    findings = Findings()
    planned = {cell.key: cell for cell in results.cells.all()}
    paths = [*beside, *(f"{CELLS}/{key}/{name}" for key, names in by_cell.items() for name in names)]
    halves = [path for path in paths if path.endswith(HALF_WRITTEN)]
    if halves and not driven:
        sentence = f"{counted(len(halves), 'half-written file')} of a process that died: {_listed(halves)}."
        findings.found.append(Finding("half-written", sentence, commands.repair, _aside(halves)))
    foreign = []
    for key in sorted(by_cell.keys() - planned.keys()):
        said = _said_key(ledger, key)
        if said in planned:
            sentence = f"{CELLS}/{key} is a copy of {planned[said].label}, whose folder is {CELLS}/{said}."
            copies = _aside(f"{CELLS}/{key}/{name}" for name in by_cell[key])
            findings.found.append(Finding("copy", sentence, commands.repair, copies))
        else:
            foreign.append(key)
    if foreign:
        findings.notes.append(
            f"{counted(len(foreign), 'cell')} of another specification, which this sweep leaves alone: "
            f"{_listed(foreign)}."
        )
    unknown = [path for path in beside if not OF_A_SWEEP.fullmatch(path) and not path.endswith(HALF_WRITTEN)]
    unknown += [
        f"{CELLS}/{key}/{name}"
        for key, names in by_cell.items()
        for name in names
        if not OF_A_CELL.fullmatch(name) and not name.endswith(HALF_WRITTEN)
    ]
    if unknown:
        findings.notes.append(f"{counted(len(unknown), 'file')} that no sweep writes: {_listed(unknown)}.")
    aside = [path for path in beside if path.startswith("damaged/")]
    if aside:
        findings.notes.append(f"{counted(len(aside), 'damaged file')} set aside in {ledger.uri}/damaged.")
    return findings


def _said_key(ledger: Ledger, folder: str) -> str:
    """Return the cell that cell.json in a folder is of; empty if it does not say."""
    try:
        return str(json.loads(ledger.read_file(CELLS, folder, CELL))["cell"]["key"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _about_lambda(results: Results, commands: _Commands, doubtful: Collection[str]) -> list[Finding]:
    """Return the final cells that were not trained with the lambda that was chosen, or given.

    What a search chooses that has to be run again in part, for its `doubtful` cells, is not known.
    """
    found = []
    finals = {final.cell: final for final in results.finals}
    for selection in results.selections:
        searched = {cell.key for row in selection.study.searches for cell in row}
        if selection.complete and selection.disagrees and not searched & set(doubtful):
            done = [cell for cell in selection.study.finals if cell in finals]
            odd = [cell for cell in done if finals[cell].what != selection.chosen]
            found.append(_odd_lambda(selection, odd, commands))
    for cell, final in finals.items():
        given = results.specification.given_weights(cell.method)
        if given is not None and final.what.aux_weights != given:
            used = _exactly(Hyperparameters(final.what.aux_weights))
            words = (
                f"{cell.label} was trained with lambda {used}, given was {_exactly(Hyperparameters(given))}."
            )
            found.append(Finding("lambda", words, commands.repair, _results_of([cell])))
    return found


def _about_rungs(results: Results, commands: _Commands, doubtful: Collection[str]) -> list[Finding]:
    """Return the trials that stopped at another rung than the values of their study decide."""
    found = []
    for selection in results.selections:
        study, eta = selection.study, selection.study.definition.halving
        cells = [cell for row in study.searches for cell in row]
        if not eta or not selection.complete or {cell.key for cell in cells} & set(doubtful):
            continue
        epochs = study.definition.epochs
        decided, until = stopped(selection.rungs, study.definition.rungs, eta)
        for index, row in enumerate(study.searches):
            if index in selection.diverged:
                continue
            end, wanted = selection.stopped.get(index, epochs), decided.get(index)
            if wanted is None and end < until:
                said = f"ended after epoch {end}, and by the values of its study it goes on"
            elif wanted is not None and end != wanted:
                said = f"ended after epoch {end}, and by the values of its study it ends after epoch {wanted}"
            else:
                continue
            words = f"{row[0].label} {said}."
            found.append(Finding("rung", words, commands.repair, _results_of(row, "ended elsewhere")))
    return found


def _odd_lambda(selection: Selection, odd: Sequence[Cell], commands: _Commands) -> Finding:
    assert selection.chosen is not None
    labels = _listed([cell.label for cell in odd])
    used = " and ".join(_exactly(what) for what in selection.recorded if what != selection.chosen)
    sentence = (
        f"{labels} {'was' if len(odd) == 1 else 'were'} trained with lambda {used}, and the search's values "
        f"choose {_exactly(selection.chosen)}."
    )
    return Finding("lambda", sentence, commands.repair, _results_of(odd))


def _aside(paths: Iterable[str]) -> tuple[Damage, ...]:
    """Return files that can be moved aside without a cell running again."""
    return tuple(Damage(path, "belongs to no cell") for path in paths)


def _results_of(cells: Iterable[Cell], problem: str = "has another lambda") -> tuple[Damage, ...]:
    """Return the results of cells that have to run again."""
    return tuple(Damage(f"{CELLS}/{cell.key}/{RESULT}", problem, cell.key) for cell in cells)


def _exactly(what: Hyperparameters) -> str:
    values = {**what.aux_weights, **what.fields}
    return ", ".join(f"{name} {value!r}" for name, value in values.items()) or "none"


def _plain(values: Any) -> Any:
    """Return values as JSON gives them back."""
    return json.loads(json.dumps(values))


def _unequal(stated: Json, planned: Json, within: str = "") -> list[tuple[str, Any, Any]]:
    """Return the fields that both have and that differ; older versions had fewer."""
    found: list[tuple[str, Any, Any]] = []
    for name in stated.keys() & planned.keys():
        ours, theirs = planned[name], stated[name]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _unequal(theirs, ours, f"{within}{name}.")
        elif ours != theirs:
            found.append((f"{within}{name}", theirs, ours))
    return sorted(found)


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more

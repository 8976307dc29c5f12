"""A sweep's results, read from its ledger: final cells, what the searches tried, and what is missing."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.ledger.attempts import PAUSED
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.later_scores import counted_later, counted_sets, sources, with_later, with_sets
from orchestrator.ledger.ledger import LATER_SETS, Ledger
from orchestrator.ledger.spending import Spending, spent_on
from orchestrator.planning.cells import FINAL, SEARCH, Cell, Cells, Study, lay_out
from orchestrator.planning.hyperparameters import Hyperparameters, Weights
from orchestrator.planning.specification import (
    DetectorColumn,
    Specification,
    StoredSweep,
    read_stored,
)
from orchestrator.planning.studies import History, Outcome, Tried, choose, history, mean_value
from orchestrator.reporting.costs import assumed_usage
from orchestrator.reporting.statistics import Estimate, average_over_classes, estimate, paired_differences
from trainables.data.named_images import NamedImages
from trainables.run import NO_HOLDOUT, parse_method
from trainables.spaces import Value

ACCURACY = "test_accuracy"
BASELINE = "classification"
OWN_AP = "AP"
"""Title of the AP of a method that trains nothing, which is its own detector."""
LAST = " (last)"
"""Marks the title of a metric of the last evaluation alone, beside means over a window."""

DONE, BEGUN, AT_RUNG = "done", "begun", "at a rung"
BLOCKED, NOT_BEGUN = "blocked", "not begun"


@dataclass(frozen=True)
class Final:
    """A final cell that is done: what it was trained with, its values in 0..1, and its last attempt."""

    cell: Cell
    what: Hyperparameters
    values: Mapping[str, float]
    attempt: Mapping[str, Any]
    later: Mapping[str, Mapping[str, Any]]
    """Records of the detectors that scored it later, by name; the values are with theirs."""
    later_sets: Mapping[str, Mapping[str, Any]]
    """Records of the image sets that were scored later, by name; the values are with theirs."""
    sources: Mapping[str, str | None]
    """Digest of the source of each detector that scored it; None if it is not known."""

    @property
    def later_records(self) -> dict[str, Mapping[str, Any]]:
        """The records of what came later, those of image sets by ood/<set>."""
        return {**self.later, **{f"ood/{name}": record for name, record in self.later_sets.items()}}

    def value(self, metric: str) -> float | None:
        """Return a value such as "ap_msp", or None if the cell has none (AP without a held-out class).

        Those of image sets are "ood/<set>/ap_msp".
        """
        return self.values.get(metric if metric.startswith("ood/") else f"final/{metric}")


@dataclass(frozen=True)
class SearchPoint:
    """A search index of a study with all of its cells done."""

    tried: Tried
    by_holdout: Mapping[str, float]
    """Validation accuracy by held-out class."""
    diverged: bool
    """Whether any of its cells diverged."""


@dataclass(frozen=True)
class Selection:
    """What a study tried, what this chooses, and what its final cells were trained with."""

    study: Study
    points: tuple[SearchPoint, ...]
    """Of what was trained to the end, by search index, up to the first that is not complete."""
    stopped: Mapping[int, int]
    """Search indices that did not go on from a rung, and its epoch; some of their cells may have diverged."""
    diverged: frozenset[int]
    """Search indices of which every cell diverged, so that none reached a rung after that."""
    rungs: Mapping[int, Mapping[int, float]]
    """By search index and rung, the values of what is done; the last rung is the end of training."""
    recorded: tuple[Hyperparameters, ...]
    """What the study's final cells that are done were trained with, each once."""

    @property
    def complete(self) -> bool:
        """Whether every search cell of the study is done."""
        return len(self.points) + len(self.stopped) == len(self.study.searches)

    @cached_property
    def chosen(self) -> Hyperparameters | None:
        """What the search values choose; None until the search is complete."""
        if not self.complete or not self.points:
            return None
        return choose(self.history, self.study.definition.choose)

    @property
    def history(self) -> History:
        """What was trained to the end, as the study's choice takes it."""
        return [point.tried for point in self.points]

    @property
    def disagrees(self) -> bool:
        """Whether any final cell was trained with something else than was chosen."""
        return any(what != self.chosen for what in self.recorded)


@dataclass(frozen=True)
class Results:
    """A sweep's results, from which everything in a report follows; accuracies and APs are in 0..1."""

    ledger: Ledger
    specification: Specification
    classes: tuple[str, ...]
    cells: Cells
    finals: tuple[Final, ...]
    selections: tuple[Selection, ...]
    detectors: tuple[DetectorColumn, ...]
    """What scored the test images: the sweep's own, then those that came later."""
    asked_sets: tuple[NamedImages, ...]
    """Names of the image sets that are scored beside the test images from now on."""
    cell_files: Mapping[str, Mapping[str, Any]]
    """Contents of cell.json by key, for every cell that has begun."""
    done: frozenset[str]
    """Keys of the cells that are done."""
    damaged: tuple[Damage, ...]
    """Files that keep cells from being done."""
    spent: Mapping[str, Spending]
    """What every cell that has begun has taken so far, by key."""
    searched: Mapping[str, Mapping[str, Any]]
    """Results of the search cells that are done, by key."""
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    """Records of the attempts at each cell, by key; version 0.1 left none."""
    strangers: tuple[str, ...]
    """Keys of cells in the ledger that are none of the sweep's, as sweep.json describes it."""
    stored: StoredSweep
    """What sweep.json says."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """The held-out classes in the specification's order, without `none`."""
        return tuple(name for name in self.specification.holdouts if name != NO_HOLDOUT)

    @cached_property
    def aps(self) -> dict[str, str]:
        """Titles of each detector's AP in tables, by metric: of the window's mean if every cell has it."""
        found = {}
        for detector in self.detectors:
            name, title = f"ap_{detector.name}", f"AP-{detector.label}"
            scored = [final for final in self.finals if final.value(f"{name}_last") is not None]
            if detector.windowed and all(final.value(name) is not None for final in scored):
                found[name] = title
            else:
                found[f"{name}_last"] = f"{title}{LAST}"
        return found

    @property
    def incomplete(self) -> dict[str, int]:
        """How many finished cells lack a detector of the sweep, by its name."""
        lacking = {}
        trained = [final for final in self.finals if parse_method(final.cell.method).trains]
        scorable = [final for final in trained if final.cell.holdout != NO_HOLDOUT]
        for detector in self.detectors:
            lacks = [final.value(f"ap_{detector.name}_last") is None for final in scorable]
            if any(lacks):
                lacking[detector.name] = sum(lacks)
        return lacking

    @property
    def edited(self) -> list[str]:
        """Detectors that scored some cells with another source than others."""
        found = []
        for detector in self.detectors:
            used = {final.sources.get(detector.name) for final in self.finals} - {None}
            if len(used) > 1:
                found.append(detector.name)
        return found

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The reported metrics and their titles in tables: each detector's AP, and accuracy."""
        return {**self.aps, ACCURACY: "accuracy"} if self.held_out else {ACCURACY: "accuracy"}

    def metrics_of(self, method: str) -> dict[str, str]:
        """Return a method's reported metrics and their titles: its own AP alone if it trains nothing."""
        if parse_method(method).trains:
            return self.metrics
        return {f"ap_{method}": OWN_AP} if self.held_out else {}

    @cached_property
    def image_sets(self) -> tuple[str, ...]:
        """Names of the image sets: those that are asked for, then others that some cell has scores of."""
        keys = (key.split("/") for final in self.finals for key in final.values)
        return tuple(
            dict.fromkeys(
                [*(each.name for each in self.asked_sets), *(key[1] for key in keys if key[0] == "ood")]
            )
        )

    def detectors_of(self, method: str) -> dict[str, str]:
        """Return what scores a method's image sets, with the titles of its AP."""
        if parse_method(method).trains:
            return {detector.name: f"AP-{detector.label}" for detector in self.detectors}
        return {method: OWN_AP}

    def beside(self, method: str, metric: str) -> Estimate | None:
        """Return an image set's metric averaged over the holdouts, over the seeds that have all of them."""
        found: dict[str, dict[int, float]] = {}
        for holdout in self.specification.holdouts:
            values = {final.cell.seed: final.value(metric) for final in self.finals_of(method, holdout)}
            found[holdout] = {seed: value for seed, value in values.items() if value is not None}
        return average_over_classes(found, self.specification.holdouts)

    @cached_property
    def ap_panels(self) -> dict[str, dict[str, str]]:
        """Each method's AP by its title: one for each detector, and one for what trains nothing."""
        found: dict[str, dict[str, str]] = {}
        for method in self.specification.methods:
            for metric, title in self.metrics_of(method).items():
                if metric != ACCURACY:
                    found.setdefault(title, {})[method] = metric
        return found

    @property
    def values(self) -> list[str]:
        """The values of a final cell in its row of cells.csv."""
        names = [detector.name for detector in self.detectors]
        windowed, last = [f"ap_{name}" for name in names], [f"ap_{name}_last" for name in names]
        thresholds = [f"{kind}_{name}" for name in names for kind in ("auroc", "fpr95")]
        alone = [method for method in self.specification.methods if not parse_method(method).trains]
        own = [f"{kind}_{method}" for method in alone for kind in ("ap", "auroc", "fpr95")]
        scores = dict.fromkeys(d for m in self.specification.methods for d in self.detectors_of(m))
        metrics = [f"{kind}_{name}" for name in scores for kind in ("ap", "auroc", "fpr95")]
        beside = [f"ood/{name}/{metric}" for name in self.image_sets for metric in (*metrics, "skew")]
        return [ACCURACY, f"{ACCURACY}_window", *windowed, *last, "skew", *thresholds, *own, *beside]

    @cached_property
    def _by_method_and_holdout(self) -> dict[tuple[str, str], list[Final]]:
        found: dict[tuple[str, str], list[Final]] = {}
        for final in self.finals:
            found.setdefault((final.cell.method, final.cell.holdout), []).append(final)
        return {pair: sorted(finals, key=lambda final: final.cell.seed) for pair, finals in found.items()}

    def finals_of(self, method: str, holdout: str) -> list[Final]:
        """Return the final cells of a method and holdout that are done, in order of seed."""
        return self._by_method_and_holdout.get((method, holdout), [])

    @property
    def lacks_seeds(self) -> bool:
        """Whether some method and holdout has results, but of fewer seeds than the sweep has."""
        found = self._by_method_and_holdout.items()
        return any(len(finals) < self.specification.seeds_of(method) for (method, _), finals in found)

    def by_class(self, method: str, metric: str) -> dict[str, dict[int, float]]:
        """Return a metric's values by held-out class and seed."""
        found: dict[str, dict[int, float]] = {}
        for holdout in self.held_out:
            values = {final.cell.seed: final.value(metric) for final in self.finals_of(method, holdout)}
            known = {seed: value for seed, value in values.items() if value is not None}
            if known:
                found[holdout] = known
        return found

    def estimate(self, method: str, holdout: str, metric: str) -> Estimate | None:
        """Return a metric's estimate over the seeds of a method and holdout; None if no seed is done."""
        values = [final.value(metric) for final in self.finals_of(method, holdout)]
        return estimate(value for value in values if value is not None)

    def average(self, method: str, metric: str) -> Estimate | None:
        """Return a metric's average over the held-out classes, over the seeds that have all of them."""
        return average_over_classes(self.by_class(method, metric), self.held_out)

    def skew(self, holdout: str) -> float | None:
        """Return the share of anomalies among the test images; None without held-out class or final cell."""
        for method in self.specification.methods:
            found = self.estimate(method, holdout, "skew")
            if found is not None:
                return found.mean
        return None

    def positives(self, holdout: str) -> int | None:
        """Return how many test images a held-out class has; None if the ledger does not say."""
        counts = self.stored.test_counts
        if len(counts) != len(self.classes) or holdout not in self.classes:
            return None
        return counts[self.classes.index(holdout)]

    def average_skew(self) -> float | None:
        """Return the mean share of anomalies over the held-out classes; None if any is unknown."""
        shares = [self.skew(holdout) for holdout in self.held_out]
        known = [share for share in shares if share is not None]
        return sum(known) / len(known) if known and len(known) == len(shares) else None

    def trained_with(self, method: str, holdout: str) -> Hyperparameters | None:
        """Return what a method's final cells were trained with or, if none is done, will be.

        That is given or its study's choice; None if there is no choice yet.
        """
        finals = self.finals_of(method, holdout)
        if finals:
            return finals[0].what
        for selection in self.selections:
            definition = selection.study.definition
            if definition.method == method and holdout in definition.holdouts:
                return selection.chosen
        given = self.specification.given_weights(method)
        return Hyperparameters(given) if given else None

    def weights(self, method: str, holdout: str) -> Weights | None:
        """Return the weights of `trained_with`; None if they are not known yet, or there are none."""
        found = self.trained_with(method, holdout)
        return found.aux_weights or None if found else None

    def differences(self, method: str, metric: str) -> dict[str, float]:
        """Return, by held-out class, the method minus classification over the seeds that both have.

        A method that trains nothing has the same value for every seed, and is set against classification's AP
        by the first detector.
        """
        if parse_method(method).trains:
            return paired_differences(self.by_class(method, metric), self.by_class(BASELINE, metric))
        others = self.by_class(BASELINE, next(iter(self.aps)))
        ours = {name: values[0] for name, values in self.by_class(method, metric).items()}
        repeated = {name: dict.fromkeys(others.get(name, ()), value) for name, value in ours.items()}
        return paired_differences(repeated, others)

    @cached_property
    def states(self) -> dict[Cell, str]:
        """The state of every cell: DONE, BEGUN but not done, AT_RUNG, BLOCKED by its search, or NOT_BEGUN."""
        blocked = {c.key for s in self.selections if not s.complete for c in s.study.finals}
        found = {}
        for cell in self.cells.all():
            if cell.key in self.done:
                found[cell] = DONE
            elif self.attempts(cell):
                records = self.records.get(cell.key)
                found[cell] = AT_RUNG if records and records[-1]["ending"] == PAUSED else BEGUN
            else:
                found[cell] = BLOCKED if cell.key in blocked else NOT_BEGUN
        return found

    def attempts(self, cell: Cell) -> int:
        """Return how many attempts at a cell have begun."""
        return int(self.cell_files.get(cell.key, {}).get("attempts", 0))


def collect(ledger: Ledger) -> Results:
    """Read a sweep's ledger; raise Mistake if there is no such sweep or sweep.json is not valid."""
    stored = read_stored(ledger)
    cells = lay_out(stored.specification, stored.fingerprint)
    every = cells.all()
    keys = [cell.key for cell in every]
    found, damaged = ledger.examine(keys)
    done = [cell for cell in every if cell.phase == FINAL and cell.key in found]
    later = ledger.read_all_later(cell.key for cell in done)
    sets = ledger.read_all_later((cell.key for cell in done), LATER_SETS)
    finals = tuple(
        _final(cell, found[cell.key], later.get(cell.key, {}), sets.get(cell.key, {})) for cell in done
    )
    cell_files = ledger.read_cells(keys)
    records = ledger.read_attempts(keys)
    return Results(
        ledger=ledger,
        specification=stored.specification,
        classes=stored.classes,
        cells=cells,
        finals=finals,
        selections=tuple(_selection(study, found) for study in cells.studies),
        detectors=_columns(stored.detectors, finals),
        asked_sets=stored.settings.image_sets,
        cell_files=cell_files,
        done=frozenset(found),
        damaged=tuple(damaged),
        spent=spent_on(ledger, records, cell_files, found, assumed_usage(stored.specification)),
        searched={cell.key: found[cell.key] for cell in every if cell.phase == SEARCH and cell.key in found},
        records=records,
        strangers=tuple(sorted(ledger.keys() - set(keys))),
        stored=stored,
    )


def cells_csv(results: Results) -> str:
    """Return cells.csv: a row per final cell, done or not, with values in 0..1."""
    finals = {final.cell.key: final for final in results.finals}
    methods = results.specification.methods
    tasks = list(dict.fromkeys(task for method in methods for task in results.specification.tasks(method)))
    searched = list(results.specification.search)
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    head = ["benchmark", "holdout", "method", "seed", "state", "key"]
    writer.writerow(
        [*head, *(f"aux_weight_{task}" for task in tasks), *searched, *results.values, "attempts", "seconds"]
    )
    for cell, state in results.states.items():
        if cell.phase != FINAL:
            continue
        about = [results.specification.benchmark, cell.holdout, cell.method, cell.seed, state, cell.key]
        final = finals.get(cell.key)
        weights: list[Value | None]
        weights = [final.what.aux_weights.get(task) if final else None for task in tasks]
        weights += [final.what.fields.get(name) if final else None for name in searched]
        values = [final.value(name) if final else None for name in results.values]
        seconds = final.attempt.get("seconds") if final else None
        writer.writerow([*about, *weights, *values, results.attempts(cell), seconds])
    return sink.getvalue()


def _final(
    cell: Cell,
    result: Mapping[str, Any],
    later: Mapping[str, Mapping[str, Any]],
    sets: Mapping[str, Mapping[str, Any]],
) -> Final:
    counting, counting_sets = counted_later(result, later), counted_sets(result, sets)
    values = with_sets(with_later(result, counting), counting_sets)
    used = sources(result, counting)
    return Final(cell, Hyperparameters.of(result), values, result["attempt"], counting, counting_sets, used)


def _columns(own: tuple[DetectorColumn, ...], finals: Sequence[Final]) -> tuple[DetectorColumn, ...]:
    """Return the sweep's own detectors, and those that came later by name, as their records have them."""
    found = {column.name: column for column in own}
    records = [(name, record) for final in finals for name, record in final.later.items()]
    for name, record in sorted(records, key=lambda pair: pair[0]):
        windowed = record["windowed"] and (name not in found or found[name].windowed)
        found[name] = DetectorColumn(name, record["label"], windowed)
    return tuple(found.values())


def _selection(study: Study, found: Mapping[str, Mapping[str, Any]]) -> Selection:
    """Return what a study tried, and chose."""
    searches = {cell.key: cell for row in study.searches for cell in row if cell.key in found}
    outcomes = {key: Outcome.of(found[key]) for key in searches}
    points = []
    for each in history(study, outcomes):
        row = study.searches[each.index]
        by_holdout = {
            holdout: statistics.fmean(outcomes[c.key].value or 0.0 for c in row if c.holdout == holdout)
            for holdout in study.definition.holdouts
        }
        diverged = any(outcomes[cell.key].diverged for cell in row)
        points.append(SearchPoint(each, by_holdout, diverged))
    stopped, diverged_alone = {}, set()
    for index, row in enumerate(study.searches):
        ends = [outcomes[cell.key] for cell in row if cell.key in outcomes]
        rungs = [end.stopped_at for end in ends if end.stopped_at is not None]
        if len(ends) == len(row) and rungs:
            stopped[index] = max(rungs)
        elif len(ends) == len(row) and all(end.diverged for end in ends):
            diverged_alone.add(index)
    recorded: list[Hyperparameters] = []
    for cell in study.finals:
        used = Hyperparameters.of(found[cell.key]) if cell.key in found else None
        if used is not None and used not in recorded:
            recorded.append(used)
    rungs_passed = _rungs(study, outcomes)
    return Selection(study, tuple(points), stopped, frozenset(diverged_alone), rungs_passed, tuple(recorded))


def _rungs(study: Study, outcomes: Mapping[str, Outcome]) -> dict[int, dict[int, float]]:
    """Return the values at rungs of the search indices that are done."""
    found: dict[int, dict[int, float]] = {}
    for index, row in enumerate(study.searches):
        if all(cell.key in outcomes for cell in row):
            for rung in study.definition.rungs:
                last = rung == study.definition.epochs
                values = [outcomes[cell.key].at(rung, last=last) for cell in row]
                known = [value for value in values if value is not None]
                if len(known) == len(row):
                    found.setdefault(index, {})[rung] = mean_value(row, known)[0]
    return found

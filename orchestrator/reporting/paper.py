"""The paper's numbers, and a sweep's compared with them.

Ahmed and Courville, "Detecting Semantic Anomalies", AAAI 2020: tables 2 to 7 and appendix C.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.planning.specification import Specification
from orchestrator.reporting.main_table import AVERAGE, Content, Row, arrange, table_rows
from orchestrator.reporting.results import OWN_AP, Results
from orchestrator.reporting.statistics import Difference, Estimate, difference
from orchestrator.reporting.tables import BLANK, DIFFERENCE, ESTIMATE, SHARE, TEXT, Column, Entry, Table
from search_spaces.benchmark import Benchmark
from trainables.mistake import counted
from trainables.recipe import Recipe
from trainables.run import NO_HOLDOUT, parse_method

METRICS = {"ap_msp": "AP-MSP", "ap_odin": "AP-ODIN", "test_accuracy": "accuracy", "ap": OWN_AP}
"""The metrics of the paper's tables and their titles; "ap" is that of methods that train nothing."""
PAPER_SEEDS = 3
"""Number of seeds ("trials" in the paper) behind each of its means."""
CPC_TABLE = "6"
"""Its classification rows are of the CPC network, so other runs than those of table 5."""
METHODS_BY_ROWS = "7"
"""The table whose rows are methods."""
BATCH = ("batch_size", "micro_batch", "cpc_batch_size")
WITHOUT_TRAINING = ("image_size", "train_fraction")
"""The fields of the recipe that matter to methods that train nothing."""
INERT = ("evaluate_every",)
"""Fields that change no reported number."""

Ours = Mapping[tuple[str, str, str], Estimate]
"""A sweep's numbers by holdout, method and metric."""


@dataclass(frozen=True)
class Published:
    """A number of the paper, in 0..1; its estimate has no `std` if the paper gives none."""

    table: str
    benchmark: str
    holdout: str
    method: str
    metric: str
    estimate: Estimate

    @property
    def our_metric(self) -> str:
        """The name of the metric in a sweep."""
        return f"ap_{self.method}" if self.metric == "ap" else self.metric

    @property
    def row(self) -> Row:
        """The number's row in a sweep's main table."""
        return AVERAGE if self.holdout == "average" else self.holdout


@dataclass(frozen=True)
class Pair:
    """A number of the paper and the sweep's own."""

    published: Published
    ours: Estimate

    @property
    def difference(self) -> Difference:
        """Ours minus the paper's."""
        return difference(self.ours, self.published.estimate)


@functools.cache
def published() -> tuple[Published, ...]:
    """Return every number of the paper's tables, in their order."""
    with Path(__file__).with_name("paper_tables.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_published(row) for row in csv.DictReader(file))


def _published(row: dict[str, str]) -> Published:
    std = float(row["std"]) / 100 if row["std"] else None
    found = Estimate(float(row["mean"]) / 100, std, PAPER_SEEDS)
    return Published(row["table"], row["benchmark"], row["holdout"], row["method"], row["metric"], found)


def on_cpc_network(specification: Specification, benchmark: Benchmark) -> bool:
    """Return whether the sweep's networks are those of the paper's CPC experiments."""
    fields = benchmark.networks.get("cpc", {})
    return bool(fields) and all(getattr(specification.recipe, k) == v for k, v in fields.items())


def of_table(specification: Specification, benchmark: Benchmark, table: str) -> bool:
    """Return whether the sweep's networks are those of a table."""
    return on_cpc_network(specification, benchmark) == (table == CPC_TABLE)


def network_of(table: str) -> str:
    """Return the auxiliary task whose network a table's sweeps have; empty for the benchmark's own."""
    return "cpc" if table == CPC_TABLE else ""


def paper_recipe(specification: Specification, benchmark: Benchmark) -> Recipe:
    """Return the paper's recipe for the sweep's network."""
    if on_cpc_network(specification, benchmark):
        return benchmark.recipe_for(("cpc",))
    return benchmark.recipe_for(specification.methods)


def departures(specification: Specification, benchmark: Benchmark) -> list[str]:
    """Return how the sweep's recipe differs from the paper's; nothing for benchmarks that it does not use."""
    if not benchmark.paper_tables:
        return []
    ours, paper = specification.recipe, paper_recipe(specification, benchmark)
    if not specification.trained:
        return _changes(ours, paper, WITHOUT_TRAINING)
    searched = specification.search
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name not in (*BATCH, *INERT, *searched)]
    found = _changes(ours, paper, fields)
    found += [
        f"{name} searched in {space} (paper: {getattr(paper, name)})" for name, space in searched.items()
    ]
    total, paper_total = ours.batch_size * specification.workers, benchmark.total_batch or paper.batch_size
    if total != paper_total:
        product = f"{specification.workers} x {ours.batch_size} = {total}"
        found.append(f"workers x batch_size {product} (paper: {paper_total})")
    patches = ours.cpc_batch_size * specification.workers
    if on_cpc_network(specification, benchmark) and patches != paper.cpc_batch_size:
        product = f"{specification.workers} x {ours.cpc_batch_size} = {patches}"
        found.append(f"workers x cpc_batch_size {product} (paper: {paper.cpc_batch_size})")
    together = (ours.micro_batch or ours.batch_size), (paper.micro_batch or paper.batch_size)
    if together[0] != together[1]:
        found.append(f"images normalised together {together[0]} (paper: {together[1]})")
    return found


def _changes(ours: Recipe, paper: Recipe, fields: Iterable[str]) -> list[str]:
    values = [(name, getattr(ours, name), getattr(paper, name)) for name in fields]
    return [f"{name} {our} (paper: {their})" for name, our, their in values if our != their]


def comparable(specification: Specification, benchmark: Benchmark) -> list[Published]:
    """Return the paper's numbers for the sweep's benchmark and kind of network, each once.

    Recipes may differ, which `departures` lists and which can explain differences between the numbers.
    """
    cpc = on_cpc_network(specification, benchmark)
    found: dict[tuple[str, str, str], Published] = {}
    for number in published():
        known = number.metric in METRICS and number.benchmark == benchmark.name
        trains = bool(specification.trained) and parse_method(number.method).trains
        wanted = trains or number.method in specification.methods
        if known and wanted and (number.table == CPC_TABLE) == cpc:
            found.setdefault((number.holdout, number.method, number.metric), number)
    return list(found.values())


def pair_with_paper(results: Results, benchmark: Benchmark) -> tuple[list[Pair], list[Published]]:
    """Return the paper's numbers paired with the sweep's, and those that the sweep lacks."""
    pairs, absent = [], []
    for number in comparable(results.specification, benchmark):
        ours = found_in(results, number)
        if ours is None:
            absent.append(number)
        else:
            pairs.append(Pair(number, ours))
    return pairs, absent


def found_in(results: Results, number: Published) -> Estimate | None:
    """Return the sweep's number if it has one; an average counts only if it is over all classes.

    Image sets are those of the paper if they are called so, and nothing is held out.
    """
    if number.holdout in results.image_sets:
        return results.estimate(number.method, NO_HOLDOUT, f"ood/{number.holdout}/{number.our_metric}")
    if number.row is not AVERAGE:
        return results.estimate(number.method, number.holdout, number.our_metric)
    if set(results.held_out) != set(results.classes):
        return None
    return results.average(number.method, number.our_metric)


def describe_absent(results: Results, absent: Sequence[Published]) -> str:
    """Return the numbers that a sweep lacks as text, by table, method and held-out class; empty if none."""
    by_table: dict[str, dict[str, dict[str, None]]] = {}
    for number in absent:
        holdouts = by_table.setdefault(number.table, {}).setdefault(number.method, {})
        holdouts[number.holdout] = None
    tables = []
    for table, methods in by_table.items():
        parts = []
        for method, holdouts in methods.items():
            whole = method not in results.specification.methods or NO_HOLDOUT in holdouts
            parts.append(method if whole else f"{method} ({', '.join(holdouts)})")
        tables.append(f"table {table}: {', '.join(parts)}")
    return "; ".join(tables)


def difference_tables(results: Results, pairs: Sequence[Pair]) -> list[Table]:
    """Return ours minus the paper's in the main table's layout."""
    numbers = [(p.published, p.difference) for p in pairs if p.published.row in table_rows(results)]
    entries = {(number.method, number.row, number.our_metric): found for number, found in numbers}
    compared = {number.method for number, _ in numbers}
    metrics = {
        method: {
            name: title
            for name, title in results.metrics_of(method).items()
            if name in (*METRICS, f"ap_{method}")
        }
        for method in results.specification.methods
        if method in compared
    }
    if not metrics:
        return []
    caption = (
        f"Ours minus the paper's on {results.specification.benchmark}, in percent points, ± the standard "
        f"error of the difference (ours over {_seeds(results)}, the paper's over {PAPER_SEEDS})."
    )
    tables = arrange(results, Content(entries, DIFFERENCE, metrics, caption))
    return [_without_blank_rows(dataclasses.replace(t, label=f"{t.label}-differences")) for t in tables]


def _seeds(results: Results) -> str:
    """Return how many seeds the sweep's numbers are over."""
    n = results.specification.seeds
    return f"up to {counted(n, 'seed')}" if results.lacks_seeds else counted(n, "seed")


def _without_blank_rows(table: Table) -> Table:
    rows = [(row, i in table.rules) for i, row in enumerate(table.rows) if any(row[1:])]
    rules = frozenset(i for i, (_, ruled) in enumerate(rows) if ruled and i)
    return dataclasses.replace(table, rows=tuple(row for row, _ in rows), rules=rules)


def paper_tables(results: Results, pairs: Sequence[Pair], benchmark: Benchmark) -> list[Table]:
    """Return the tables of the paper of which the sweep has numbers, with its rows below the paper's."""
    ours = {(p.published.holdout, p.published.method, p.published.metric): p.ours for p in pairs}
    cpc = on_cpc_network(results.specification, benchmark)
    tables = []
    for name in dict.fromkeys(number.table for number in published()):
        numbers = [n for n in published() if n.table == name and n.benchmark == benchmark.name]
        if (name == CPC_TABLE) == cpc and any((n.holdout, n.method, n.metric) in ours for n in numbers):
            tables.append(_in_layout(results, name, numbers, ours))
    return tables


def _in_layout(results: Results, name: str, numbers: Sequence[Published], ours: Ours) -> Table:
    """Return a table of the paper, with the sweep's row below each of its own."""
    entries = {number: _our_entry(results, number, ours) for number in numbers}
    caption = (
        f"The paper's table {name} ({results.specification.benchmark}) beside this sweep, in percent: mean ± "
        f"standard deviation over {PAPER_SEEDS} seeds (paper) and {_seeds(results)} (ours)."
    )
    return beside_ours(entries, caption, f"tab:{results.ledger.name}-paper-{name}")


def beside_ours(entries: Mapping[Published, Entry], caption: str, label: str) -> Table:
    """Return a table of the paper from its numbers, with a row of ours below each of its own."""
    by_position = {_position(number, [*entries]): number for number in entries}
    columns = list(dict.fromkeys(column for _, column in by_position))
    names = list(dict.fromkeys(row for row, _ in by_position))
    rows: list[tuple[Entry, ...]] = []
    for row in names:
        found = [by_position.get((row, column)) for column in columns]
        rows.append((row, "paper", *(_theirs(number) for number in found)))
        rows.append((BLANK, "ours", *(BLANK if number is None else entries[number] for number in found)))
    head = (Column("", TEXT, "row"), Column("", TEXT, "source"))
    rules = frozenset(2 * i for i, row in enumerate(names) if row == "average")
    return Table((*head, *columns), tuple(rows), caption, label, rules)


def _position(number: Published, table: Sequence[Published]) -> tuple[str, Column]:
    """Return the row and the column of a number in the paper's table."""
    if number.table == METHODS_BY_ROWS:
        return number.method, Column(METRICS[number.metric], ESTIMATE, number.metric)
    by_class = len({other.holdout for other in table}) > 1
    row = number.holdout if by_class else number.benchmark
    if number.metric == "skew":
        return row, Column("random AP", SHARE, "random_ap")
    name = f"{number.method}_{number.metric}"
    return row, Column(METRICS[number.metric], ESTIMATE, name, number.method)


def _theirs(number: Published | None) -> Entry:
    if number is None:
        return BLANK
    return number.estimate.mean if number.metric == "skew" else number.estimate


def _our_entry(results: Results, number: Published, ours: Ours) -> Entry:
    if number.metric == "skew":
        return results.average_skew()
    return ours.get((number.holdout, number.method, number.metric))

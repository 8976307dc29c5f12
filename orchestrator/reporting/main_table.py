"""A sweep's main table: a row per held-out class, columns by method and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.planning.dry_run import describe_network
from orchestrator.planning.specification import Specification
from orchestrator.reporting.results import ACCURACY, LAST, Results
from orchestrator.reporting.search_sentences import how_chosen
from orchestrator.reporting.tables import (
    BLANK,
    CHANCE,
    ESTIMATE,
    NUMBER,
    SHARE,
    TEXT,
    Chance,
    Column,
    Entry,
    Table,
    to_text,
)
from trainables.recipe import Recipe
from trainables.run import NO_HOLDOUT, parse_method
from trainables.settings import valid_of
from trainables.spaces import spelt
from trainables.training_free import TRAINING_FREE

WIDTH = 120
"""Characters of a terminal's line, in which a table should fit."""
AVERAGE = None

Row = str | None
"""What a row is of: a holdout, or AVERAGE."""
Entries = Mapping[tuple[str, Row, str], Entry]
"""Entries by method, row and metric; those that are left out are BLANK."""


@dataclass(frozen=True)
class Content:
    """What a table shows: entries, the kind of their columns, and the caption.

    `metrics` has, for each method in order, the title of each of its metrics that are shown.
    """

    entries: Entries
    kind: str
    metrics: Mapping[str, Mapping[str, str]]
    caption: str

    def of(self, methods: Sequence[str]) -> Content:
        """Return what the table shows of some of the methods."""
        return replace(self, metrics={method: self.metrics[method] for method in methods})

    def kind_of(self, method: str) -> str:
        """The kind of a method's columns: estimates over seeds are plain values where nothing is trained."""
        return self.kind if self.kind != ESTIMATE or parse_method(method).trains else SHARE


@dataclass(frozen=True)
class _FilledColumn:
    """A column and its entries from top to bottom."""

    column: Column
    entries: list[Entry]


def main_tables(results: Results) -> list[Table]:
    """Return the results in one table or, if that would be too wide to read, in one per metric.

    There is none if no class is held out and nothing is trained, since image sets have a table of their own.
    """
    content = _main_content(results)
    return arrange(results, content) if any(content.metrics.values()) else []


def wide_table(results: Results) -> Table:
    """Return the results in one table of any width, for files."""
    return _side_by_side(results, _main_content(results), "main")


def arrange(results: Results, content: Content) -> list[Table]:
    """Return one table with the methods side by side or, if that is too wide, several.

    Those are one per title of a metric and, for estimates, one of lambda; or, if only one of the methods has
    several metrics, one of this method and one of the others.
    """
    whole = _side_by_side(results, content, "main")
    width = max(len(line) for line in to_text(whole).splitlines())
    if width <= WIDTH or len(content.metrics) == 1:
        return [whole]
    rich = [method for method, metrics in content.metrics.items() if len(metrics) > 1]
    if len(rich) == 1:
        parts = {"main": rich, "others": [method for method in content.metrics if method not in rich]}
        return [_side_by_side(results, content.of(methods), kind) for kind, methods in parts.items()]
    titles = dict.fromkeys(title for metrics in content.metrics.values() for title in metrics.values())
    tables = [_of_one_title(results, content, title) for title in titles]
    lambdas = _lambda_table(results) if content.kind == ESTIMATE else None
    return [*tables, lambdas] if lambdas else tables


def table_rows(results: Results) -> list[Row]:
    """Return the holdouts in the specification's order, then the average if several classes are held out."""
    rows: list[Row] = list(results.specification.holdouts)
    if len(results.held_out) > 1:
        rows.append(AVERAGE)
    return rows


def _main_content(results: Results) -> Content:
    shown = {method: results.metrics_of(method) for method in results.specification.methods}
    entries = {
        (method, row, metric): _estimate(results, method, row, metric)
        for method, metrics in shown.items()
        for row in table_rows(results)
        for metric in metrics
    }
    return Content(entries, ESTIMATE, shown, _caption(results))


def _estimate(results: Results, method: str, row: Row, metric: str) -> Entry:
    if row == NO_HOLDOUT and metric != ACCURACY:
        return BLANK
    found = results.average(method, metric) if row is AVERAGE else results.estimate(method, row, metric)
    return found if found is None or parse_method(method).trains else found.mean


def _caption(results: Results) -> str:
    specification = results.specification
    window = min(specification.recipe.ap_window, specification.recipe.epochs)
    n = specification.seeds
    spread = (
        "One seed (n = 1), so no ± is given, in percent."
        if n == 1
        else f"Mean ± standard deviation (ddof = 1) over n = {n} seeds, in percent."
    )
    parts = [f"{specification.benchmark}, {describe_network(specification)}."]
    parts += [spread] if specification.trained else ["In percent."]
    if results.held_out:
        if not specification.trained:
            taken = "AP is that of the test images"
        elif window == 1:
            taken = "AP and accuracy (of the kept classes) are the last epoch's"
        else:
            taken = (
                f"AP is the mean over the last {window} evaluations, accuracy (of the kept classes) the last "
                "epoch's"
            )
        known = any(results.positives(name) is not None for name in results.held_out)
        counts = " (in brackets: how many they are)" if known else ""
        parts.append(
            f"{taken}; random AP is the share of anomalies{counts}, which a random detector's AP tends to."
        )
        if any(title.endswith(LAST) for title in results.aps.values()):
            parts.append(f"AP marked{LAST} is of the last evaluation alone.")
    parts += about_untrained(specification)
    if n > 1 and len(results.held_out) > 1 and specification.trained:
        parts.append("The average's ± is the standard deviation over seeds of each seed's average.")
    parts.append(how_chosen(specification))
    if results.lacks_seeds:
        parts.append(f"An asterisk marks fewer than {n} seeds.")
    if len(results.held_out) > 1 and _lacks_average(results):
        parts.append("An average is shown once a seed is done with every held-out class.")
    return " ".join(part for part in parts if part)


def about_untrained(specification: Specification) -> list[str]:
    """Return a sentence on the score of each method that trains nothing."""
    untrained = [method for method in specification.methods if method not in specification.trained]
    return [
        f"{method} trains nothing, so it has one score: {TRAINING_FREE.find(method).about}."
        for method in untrained
    ]


def _lacks_average(results: Results) -> bool:
    last = [(method, list(results.metrics_of(method))[-1]) for method in results.specification.methods]
    return any(results.average(method, metric) is None for method, metric in last)


def _side_by_side(results: Results, content: Content, kind: str) -> Table:
    """Return a table of every method's metrics and, for estimates, lambda of the methods that have one."""
    columns = [_names(results)]
    if content.kind == ESTIMATE and results.held_out:
        columns.append(_random_ap(results))
    for method, metrics in content.metrics.items():
        for metric, title in metrics.items():
            contest = title if content.kind == ESTIMATE else ""
            column = Column(title, content.kind_of(method), _column_name(method, metric), method, contest)
            columns.append(_filled(results, column, content, method, metric))
        if content.kind == ESTIMATE:
            columns += _lambdas(results, method)
    return _table(results, columns, content.caption, kind)


def _of_one_title(results: Results, content: Content, title: str) -> Table:
    """Return a table of the methods that have a metric of this title, side by side."""
    titled = {method: {t: m for m, t in metrics.items()} for method, metrics in content.metrics.items()}
    found = {method: metrics[title] for method, metrics in titled.items() if title in metrics}
    first = next(iter(found.values()))
    columns = [_names(results)]
    if content.kind == ESTIMATE and first != ACCURACY:
        columns.append(_random_ap(results))
    for method, metric in found.items():
        contest = title if content.kind == ESTIMATE else ""
        column = Column(method, content.kind_of(method), _column_name(method, metric), title, contest)
        columns.append(_filled(results, column, content, method, metric))
    return _table(results, columns, content.caption, first)


def _column_name(method: str, metric: str) -> str:
    """Return a column's name in CSV; the metric of a method that trains nothing is named after it already."""
    return f"{method}_{metric}" if parse_method(method).trains else metric


def _lambda_table(results: Results) -> Table | None:
    columns = [_names(results)]
    for method in results.specification.methods:
        columns += _lambdas(results, method)
    if len(columns) == 1:
        return None
    searched = ", ".join(["lambda", *results.specification.search])
    caption = f"{results.specification.benchmark}: {searched} by held-out class."
    table = _table(results, columns, caption, "lambda")
    return Table(table.columns, table.rows[: len(results.specification.holdouts)], caption, table.label)


def _names(results: Results) -> _FilledColumn:
    names: list[Entry] = ["average" if row is AVERAGE else row for row in table_rows(results)]
    return _FilledColumn(Column("held out", TEXT, "holdout"), names)


def _random_ap(results: Results) -> _FilledColumn:
    shares: list[Entry] = []
    for row in table_rows(results):
        if row is AVERAGE:
            skew = results.average_skew()
            shares.append(skew if skew is None else Chance(skew, None))
        else:
            skew = None if row == NO_HOLDOUT else results.skew(row)
            known = skew if skew is None else Chance(skew, results.positives(row))
            shares.append(BLANK if row == NO_HOLDOUT else known)
    return _FilledColumn(Column("random AP", CHANCE, "random_ap"), shares)


def _filled(results: Results, column: Column, content: Content, method: str, metric: str) -> _FilledColumn:
    entries = content.entries
    return _FilledColumn(column, [entries.get((method, row, metric), BLANK) for row in table_rows(results)])


def _lambdas(results: Results, method: str) -> list[_FilledColumn]:
    """Return a column of lambda for each of a method's auxiliary tasks, and of each searched field."""
    tasks = parse_method(method).auxiliary
    columns = []
    for task in tasks:
        title = "lambda" if len(tasks) == 1 else f"lambda {task}"
        weights: list[Entry] = []
        for row in table_rows(results):
            weights.append(BLANK if row is AVERAGE else (results.weights(method, row) or {}).get(task))
        columns.append(_FilledColumn(Column(title, NUMBER, f"{method}_aux_weight_{task}", method), weights))
    for name in results.specification.search if parse_method(method).trains else ():
        columns.append(_FilledColumn(*_searched(results, method, name)))
    return columns


def _searched(results: Results, method: str, name: str) -> tuple[Column, list[Entry]]:
    """Return the column of a searched field: numbers, or words."""
    kind = valid_of(Recipe)[name][0]
    entries: list[Entry] = []
    for row in table_rows(results):
        found = None if row is AVERAGE else results.trained_with(method, row)
        value = found.fields.get(name) if found else None
        word = value if value is None or kind in (int, float) else spelt(value)
        entries.append(BLANK if row is AVERAGE else word)
    return Column(name, NUMBER if kind in (int, float) else TEXT, f"{method}_{name}", method), entries


def _table(results: Results, columns: Sequence[_FilledColumn], caption: str, kind: str) -> Table:
    names = table_rows(results)
    return Table(
        columns=tuple(each.column for each in columns),
        rows=tuple(zip(*(each.entries for each in columns), strict=True)),
        caption=caption,
        label=f"tab:{results.ledger.name}-{kind}",
        rules=frozenset(i for i, row in enumerate(names) if row is AVERAGE),
        full=results.specification.seeds,
    )

"""The main table of a sweep: held-out classes by rows, methods and metrics by columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.planning.specification import Specification
from orchestrator.reporting.results import ACCURACY, METRICS, Results
from orchestrator.reporting.tables import BLANK, ESTIMATE, NUMBER, SHARE, TEXT, Column, Entry, Table, to_text
from trainables.run import NO_HOLDOUT, parse_method

WIDTH = 120
"""Columns of a terminal that a table should fit."""
AVERAGE = None
"""The place of the average row, where others have a held-out class."""

Place = str | None
Fill = Callable[[str, Place, str], Entry]
"""The entry of a method, place and metric."""
Maker = Callable[[Place], Entry]
"""The entry of a column at a place."""


def main_tables(results: Results) -> list[Table]:
    """The results in one table, or, where that would be too wide to read, in one a metric."""
    return arrange(results, _estimates(results), ESTIMATE, _caption(results))


def wide_table(results: Results) -> Table:
    """The results in one table however wide, for files."""
    methods, metrics = results.specification.methods, _metrics(results)
    return _by_method(results, methods, metrics, _estimates(results), ESTIMATE, _caption(results))


def arrange(
    results: Results, fill: Fill, kind: str, caption: str, methods: Sequence[str] | None = None
) -> list[Table]:
    """One table with the methods side by side or, where that is too wide, one a metric and one of lambda."""
    methods = results.specification.methods if methods is None else methods
    metrics = _metrics(results)
    whole = _by_method(results, methods, metrics, fill, kind, caption)
    width = max(len(line) for line in to_text(whole).splitlines())
    if width <= WIDTH or len(methods) == 1:
        return [whole]
    tables = [_by_metric(results, methods, metric, fill, kind, caption) for metric in metrics]
    lambdas = _lambda_table(results) if kind == ESTIMATE else None
    return [*tables, lambdas] if lambdas else tables


def places(results: Results) -> list[Place]:
    """The rows: the holdouts in the specification's order, then the average if classes were held out."""
    return [*results.specification.holdouts, *([AVERAGE] if len(results.held_out) > 1 else [])]


def describe_recipe(specification: Specification) -> str:
    """Network, length and batch in words."""
    recipe = specification.recipe
    groups = f" ({recipe.groups} groups)" if recipe.groups != 3 else ""
    workers = f" x {specification.workers} workers" if specification.workers > 1 else ""
    return (
        f"{recipe.network_name}{groups} at {recipe.image_size}x{recipe.image_size}, "
        f"{recipe.epochs} epochs, batch {recipe.batch_size}{workers}"
    )


def _metrics(results: Results) -> list[str]:
    return list(METRICS) if results.held_out else [ACCURACY]


def _estimates(results: Results) -> Fill:
    def fill(method: str, place: Place, metric: str) -> Entry:
        if place == NO_HOLDOUT and metric != ACCURACY:
            return BLANK
        return (
            results.average(method, metric) if place is AVERAGE else results.estimate(method, place, metric)
        )

    return fill


def _caption(results: Results) -> str:
    specification = results.specification
    window = min(specification.recipe.ap_window, specification.recipe.epochs)
    n = specification.seeds
    spread = (
        "One seed (n = 1), so no ± is given, in percent."
        if n == 1
        else f"Mean ± standard deviation (ddof = 1) over n = {n} seeds, in percent."
    )
    parts = [f"{specification.benchmark}, {describe_recipe(specification)}.", spread]
    if results.held_out:
        if window == 1:
            taken = "AP and accuracy (of the kept classes) are the last epoch's"
        else:
            taken = (
                f"AP is the mean over the last {window} evaluations, accuracy (of the kept classes) the last "
                "epoch's"
            )
        parts.append(f"{taken}; random AP is the share of anomalies, which a random detector's AP tends to.")
    if n > 1 and len(results.held_out) > 1:
        parts.append("The average's ± is the standard deviation over seeds of each seed's average.")
    parts.append(_about_lambda(specification))
    if lacks_seeds(results):
        parts.append(f"An asterisk marks fewer than {n} seeds.")
    if len(results.held_out) > 1 and _lacks_average(results):
        parts.append("An average waits for a seed that has every held-out class.")
    return " ".join(part for part in parts if part)


def _about_lambda(specification: Specification) -> str:
    if not any(specification.tasks(method) for method in specification.methods):
        return ""
    if specification.aux_weights is not None:
        return "lambda was given."
    each = "each held-out class" if specification.select == "holdout" else "the benchmark"
    return f"lambda was chosen for {each}, by validation accuracy."


def lacks_seeds(results: Results) -> bool:
    """Whether some place has results of fewer seeds than the sweep has."""
    return any(len(rows) < results.specification.seeds for rows in results.by_place.values())


def _lacks_average(results: Results) -> bool:
    return any(results.average(method, ACCURACY) is None for method in results.specification.methods)


def _by_method(
    results: Results, methods: Sequence[str], metrics: Sequence[str], fill: Fill, kind: str, caption: str
) -> Table:
    """Every method's metrics, and its lambda where it has one and results are shown, side by side."""
    columns, makers = _first_columns(results, skew=kind == ESTIMATE and len(metrics) > 1)
    for method in methods:
        for metric in metrics:
            columns.append(Column(METRICS[metric], kind, f"{method}_{metric}", method))
            makers.append(_maker(fill, method, metric))
        if kind == ESTIMATE:
            _add_lambda(results, method, columns, makers)
    return _table(results, columns, makers, caption, "main")


def _by_metric(
    results: Results, methods: Sequence[str], metric: str, fill: Fill, kind: str, caption: str
) -> Table:
    columns, makers = _first_columns(results, skew=kind == ESTIMATE and metric != ACCURACY)
    for method in methods:
        columns.append(Column(method, kind, f"{method}_{metric}", METRICS[metric]))
        makers.append(_maker(fill, method, metric))
    return _table(results, columns, makers, caption, metric)


def _lambda_table(results: Results) -> Table | None:
    columns, makers = _first_columns(results, skew=False)
    for method in results.specification.methods:
        _add_lambda(results, method, columns, makers)
    if len(columns) == 1:
        return None
    caption = f"{results.specification.benchmark}: lambda by held-out class."
    table = _table(results, columns, makers, caption, "lambda")
    return Table(table.columns, table.rows[: len(results.specification.holdouts)], caption, table.label)


def _first_columns(results: Results, *, skew: bool) -> tuple[list[Column], list[Maker]]:
    def shown(place: Place) -> Entry:
        if place == NO_HOLDOUT:
            return BLANK
        return results.average_skew() if place is AVERAGE else results.skew(place)

    columns = [Column("held out", TEXT, "holdout")]
    makers: list[Maker] = [lambda place: "average" if place is AVERAGE else place]
    if skew:
        columns.append(Column("random AP", SHARE, "random_ap"))
        makers.append(shown)
    return columns, makers


def _maker(fill: Fill, method: str, metric: str) -> Maker:
    return lambda place: fill(method, place, metric)


def _add_lambda(results: Results, method: str, columns: list[Column], makers: list[Maker]) -> None:
    tasks = parse_method(method).auxiliary
    for task in tasks:

        def shown(place: Place, task: str = task) -> Entry:
            if place is AVERAGE:
                return BLANK
            return (results.weights(method, place) or {}).get(task)

        title = "lambda" if len(tasks) == 1 else f"lambda {task}"
        columns.append(Column(title, NUMBER, f"{method}_aux_weight_{task}", method))
        makers.append(shown)


def _table(results: Results, columns: list[Column], makers: list[Maker], caption: str, kind: str) -> Table:
    rows = tuple(tuple(make(place) for make in makers) for place in places(results))
    average = frozenset({len(rows) - 1}) if AVERAGE in places(results) else frozenset()
    label = f"tab:{results.ledger.name}-{kind}"
    return Table(tuple(columns), rows, caption, label, average, results.specification.seeds)

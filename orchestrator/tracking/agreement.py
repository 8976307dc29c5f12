"""Whether MLflow's records of a sweep are what its ledger says: run by run and number by number.

MLflow is only read. No experiment, table or file is made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.planning.cells import Cell
from orchestrator.planning.specification import Specification
from orchestrator.tracking import tracker, uris
from orchestrator.tracking.client import import_client
from orchestrator.tracking.records import Record, cell_record, summary_record
from trainables.mistake import Mistake, one_line

PAGE = 1000
"""Runs that are asked for at once: the most that MLflow gives."""
MOST_POINTS = 10**8
THREADS = 8
"""Requests to a server at once."""

NAMED = 3
"""Most differences of a run that a sentence names."""

MISSING, TWINS, STATUS, DIFFERS, SURPLUS, UNKNOWN = (
    *("missing", "twins", "status", "differs", "surplus", "unknown"),
)
"""Kinds: no run, more than one, a wrong status, other contents, points too many, a run of no cell."""

Value = tuple[str, int, float]
"""A point of a metric: name, step and value."""


@dataclass(frozen=True)
class Disagreement:
    """Something in MLflow that is not as the ledger says: of which cell, or of the sweep, and in words."""

    kind: str
    label: str
    words: str = ""
    runs: tuple[str, ...] = ()
    """Ids of the runs that are concerned."""


@dataclass(frozen=True)
class Agreement:
    """What MLflow was found to hold of a sweep."""

    runs: int
    """How many runs there are."""
    points: int
    """How many points of metrics they have."""
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True)
class _Expected:
    """What a run should be: its contents, and whether it may lag behind them."""

    label: str
    record: Record
    may_lag: bool


def compare(
    uri: str,
    ledger: Ledger,
    specification: Specification,
    cells: Sequence[Cell],
    summary: Mapping[str, float] | None,
    *,
    driven: bool,
) -> Agreement:
    """Compare MLflow's runs with what the ledger says of every cell that has begun.

    The sweep's own run is compared if its metrics are given. While the sweep is driven its runs may lag
    behind. Raise Mistake if MLflow cannot be read, or is not installed.
    """
    expected = _expected(ledger, specification, cells, summary, driven)
    try:
        found = _Found.read(uri, specification.benchmark, ledger.known_identity() or "")
    except ImportError as error:
        raise Mistake(
            f"MLflow's records cannot be read, since {error.name or 'a module'} cannot be imported here: "
            "install the project as its README.md says, or add --no-tracking."
        ) from None
    except Mistake:
        raise
    except Exception as error:  # MLflow's own, SQLAlchemy's, requests'
        raise Mistake(
            f"MLflow's records in {masked(uri)} cannot be read ({masked(one_line(error))}): start its "
            "server, give another with --tracking-uri, or add --no-tracking."
        ) from None
    wrong: list[Disagreement] = []
    planned = {cell.key for cell in cells}
    for key, runs in found.runs.items():
        if key in planned and key not in expected:
            continue  # every attempt at it failed before it left anything
        if key not in expected:
            label = runs[0].info.run_name
            if key != tracker.SUMMARY:
                wrong.append(Disagreement(UNKNOWN, label, runs=tuple(run.info.run_id for run in runs)))
        elif len(runs) > 1:
            words = f"{len(runs)} runs"
            ids = tuple(run.info.run_id for run in runs)
            wrong.append(Disagreement(TWINS, expected[key].label, words, ids))
        else:
            wrong += _compared(expected[key], runs[0], found.points[runs[0].info.run_id], driven)
    for key, each in expected.items():
        if key not in found.runs and not each.may_lag:
            wrong.append(Disagreement(MISSING, each.label))
    count = sum(len(runs) for runs in found.runs.values())
    return Agreement(count, sum(points.total() for points in found.points.values()), tuple(wrong))


def _expected(
    ledger: Ledger,
    specification: Specification,
    cells: Sequence[Cell],
    summary: Mapping[str, float] | None,
    driven: bool,
) -> dict[str, _Expected]:
    begun = ledger.read_cells(cell.key for cell in cells)
    wanted = [cell for cell in cells if cell.key in begun]
    with ThreadPoolExecutor(THREADS) as pool:
        records = list(pool.map(lambda cell: cell_record(cell, specification, ledger), wanted))
    found = {
        cell.key: _Expected(cell.label, record, driven or not record.finished)
        for cell, record in zip(wanted, records, strict=True)
    }
    if summary is not None:
        record = summary_record(specification, ledger, dict(summary), 0.0)
        found[tracker.SUMMARY] = _Expected(ledger.name, record, driven)
    return found


@dataclass(frozen=True)
class _Found:
    """A sweep's runs in MLflow by the cell's key, and their points by the run's id."""

    runs: dict[str, list[Any]]
    points: dict[str, Counter[Value]]

    @staticmethod
    def read(uri: str, benchmark: str, identity: str) -> _Found:
        path = uris.sqlite_path(uri)
        if path is not None and not Path(path).exists():  # MLflow would make it
            return _Found({}, {})
        client = import_client()(uri)
        experiments = [client.get_experiment_by_name(name) for name in (benchmark, f"{benchmark}-search")]
        ids = [each.experiment_id for each in experiments if each is not None]
        runs = list(_search(client, ids, f"tags.ledger = '{identity}'")) if ids else []
        by_key: dict[str, list[Any]] = defaultdict(list)
        for run in runs:
            by_key[run.data.tags.get("cell", tracker.SUMMARY)].append(run)
        return _Found(dict(by_key), _histories(client, runs))


def _search(client: Any, experiments: list[str], condition: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _histories(client: Any, runs: Sequence[Any]) -> dict[str, Counter[Value]]:
    """Return the points of every run's metrics; a database is asked for a metric of many runs at once."""
    found: dict[str, Counter[Value]] = {run.info.run_id: Counter() for run in runs}
    named: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        for name in run.data.metrics:
            named[name].append(run.info.run_id)
    bulk = getattr(client._tracking_client.store, "get_metric_history_bulk", None)
    if bulk is not None:
        for name, ids in named.items():
            for start in range(0, len(ids), PAGE):
                for each in bulk(ids[start : start + PAGE], name, MOST_POINTS):
                    found[each.run_id][name, each.step, each.value] += 1
        return found
    asked = [(run_id, name) for name, ids in named.items() for run_id in ids]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(lambda pair: client.get_metric_history(*pair), asked)
        for (run_id, name), points in zip(asked, answers, strict=True):
            for point in points:
                found[run_id][name, point.step, point.value] += 1
    return found


def _compared(expected: _Expected, run: Any, points: Counter[Value], driven: bool) -> list[Disagreement]:
    """Return what is wrong with a run."""
    record, label, ids = expected.record, expected.label, (run.info.run_id,)
    wrong = []
    status = run.info.status
    if record.finished and not expected.may_lag and status != "FINISHED":
        wrong.append(Disagreement(STATUS, label, f"{status} and should be FINISHED", ids))
    if not record.finished:
        if status == "RUNNING" and not driven:
            return [Disagreement(STATUS, label, "RUNNING, and nobody runs it", ids)]
        return []  # it is written when the cell goes on
    summary = "cell" not in record.tags
    differences = _different("tag", record.tags, run.data.tags, expected.may_lag)
    differences += [] if summary else _different("param", record.params, run.data.params, expected.may_lag)
    if summary:  # its metrics change as the sweep grows: the newest values count
        named = {point.name for point in record.points}
        points = Counter((name, 0, value) for name, value in run.data.metrics.items() if name in named)
    else:  # and so does what a cell took, by attempts that are found lost later
        points = Counter(
            {point: n for point, n in points.items() if not point[0].startswith(tracker.ACCOUNTS)}
        )
        points += Counter(
            (p.name, p.step, run.data.metrics[p.name])
            for p in record.points
            if p.name.startswith(tracker.ACCOUNTS) and p.name in run.data.metrics
        )
    wanted = Counter((p.name, p.step, p.value) for p in record.points)
    missing, surplus = _sorted(wanted - points), _sorted(points - wanted)
    stated = {(name, step): value for name, step, value in surplus}
    for name, step, value in missing:
        if (name, step) in stated:
            other = stated.pop((name, step))
            differences.append(f"{name} at step {step} is {other!r} and should be {value!r}")
        elif not expected.may_lag:
            differences.append(f"{name} at step {step} is missing and should be {value!r}")
    if differences:
        wrong.append(Disagreement(DIFFERS, label, _listed(differences), ids))
    if stated:
        surplus_words = [f"{name} at step {step}, {value!r}" for (name, step), value in stated.items()]
        wrong.append(Disagreement(SURPLUS, label, _listed(surplus_words), ids))
    return wrong


def _different(what: str, wanted: Mapping[str, str], have: Mapping[str, str], may_lag: bool) -> list[str]:
    """Return the tags or params that are not as they should be; MLflow may have others beside them."""
    return [
        f"the {what} {name} is {have.get(name, 'missing')} and should be {value}"
        for name, value in wanted.items()
        if have.get(name) != value and not may_lag
    ]


def _sorted(points: Counter[Value]) -> list[Value]:
    return sorted(points.elements())


def _listed(words: Sequence[str]) -> str:
    more = f"; and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return "; ".join(words[:NAMED]) + more

"""The pages on which MLflow shows a sweep: their saved state, addresses and colours; needs no MLflow.

MLflow's "Share" keeps the state of a runs page, as JSON, in a tag of the experiment, and an address that
names the tag opens the page in that state. The state's keys are those of MLflow 3.17 (docs/mlflow.md).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from orchestrator.tracking.uris import origin
from trainables.auxiliary import TASKS
from trainables.run import CLASSIFICATION

COLOUR_TAG = "mlflow.runColor"
_STATE_TAG = "mlflow.sharedViewState."

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; the report's figures have it, too."""
OWN_COLOURS = (CLASSIFICATION, *reversed(TASKS.built_in))[:4]
"""The methods that have the first colours in every sweep: classification, and the built-in tasks alone."""

LONGEST_STATE = 5000
"""Characters that MLflow takes of an experiment's tag."""
MOST_RUNS = 500
"""Most runs in a chart, which MLflow offers at most."""


def colour_of(method: str, methods: Sequence[str]) -> str:
    """Return the colour of a method among a sweep's methods, on MLflow's pages and in the report's figures.

    Those of OWN_COLOURS have the same in every sweep. Any other has one that follows from its name, or
    the next that is free where an earlier method of the sweep has it.
    """
    taken: dict[str, str] = {}
    for each in [*(m for m in OWN_COLOURS if m in methods), *methods]:
        if each not in taken:
            free = [colour for colour in COLOURS if colour not in taken.values()] or COLOURS
            taken[each] = next(colour for colour in _preferred(each) if colour in free)
    return taken[method]


def _preferred(method: str) -> Sequence[str]:
    """Return all colours, from the one that a method has where it is free."""
    left = len(COLOURS) - len(OWN_COLOURS)
    if method in OWN_COLOURS:
        first = OWN_COLOURS.index(method)
    else:
        first = len(OWN_COLOURS) + zlib.crc32(method.encode()) % left
    return *COLOURS[first:], *COLOURS[:first]


def saved_views(
    sweep: str, identity: str, metrics: Iterable[str], params: Iterable[str] = ()
) -> dict[str, str]:
    """Return the experiment's tags that hold a sweep's two views, of its final cells.

    NAME has a chart for each of the `metrics`, with a dot for each cell by held-out class, in its method's
    colour; NAME-means has a bar for each method. `params` are further columns of the table of runs. Where a
    state would be longer than MLflow takes, the last metrics are left out.
    """
    shown = list(metrics)
    while True:
        views = {
            f"{_STATE_TAG}{sweep}": _state(sweep, identity, shown, params, _dots(shown), grouped=False),
            f"{_STATE_TAG}{sweep}-means": _state(sweep, identity, shown, params, _bars(shown), grouped=True),
        }
        if len(shown) < 2 or max(map(len, views.values())) <= LONGEST_STATE:
            return views
        shown.pop()


def view_address(uri: str, experiment: str, sweep: str) -> str:
    """Return the address that opens a sweep's view, under the server that `uri` names or a local one."""
    return f"{origin(uri)}/{view_link(experiment, sweep)}"


def view_link(experiment: str, sweep: str) -> str:
    """Return the link from another of a server's pages to a sweep's view."""
    return (
        f"#/experiments/{experiment}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={quote(sweep, safe='')}&compareRunsMode=CHART"
    )


def _state(
    sweep: str,
    identity: str,
    metrics: Iterable[str],
    params: Iterable[str],
    charts: tuple[str, list[Mapping[str, object]]],
    *,
    grouped: bool,
) -> str:
    """Return the state of a runs page, as MLflow's pages write it."""
    title, cards = charts
    columns = [f"params.`{name}`" for name in ("method", "holdout", "seed", "aux_weight", *params)]
    by_method = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "method"}]}
    section = {"uuid": "sweep", "name": title, "display": True, "columns": 1, "cardHeight": 420}
    plain = {"deleted": False, "isGenerated": False}
    state = {
        "searchFilter": f"tags.sweep = '{sweep}' and tags.ledger = '{identity}' and tags.kind = 'final'",
        "orderByKey": "params.`holdout`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": [*columns, *(f"metrics.`{metric}`" for metric in metrics)],
        "groupBy": by_method if grouped else None,
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [section | plain | {"isReordered": True}],
        "isAccordionReordered": True,  # else MLflow's own sections come first, by their names
        "compareRunCharts": [{**card, "metricSectionId": "sweep", **plain} for card in cards],
    }
    return json.dumps(state, separators=(",", ":"))


def _dots(metrics: Iterable[str]) -> tuple[str, list[Mapping[str, object]]]:
    return "By held-out class, a dot for each seed", [
        {
            "uuid": metric,
            "type": "SCATTER",
            "runsCountToCompare": MOST_RUNS,
            "xaxis": {"type": "PARAM", "key": "holdout"},
            "yaxis": {"type": "METRIC", "key": metric},
        }
        for metric in metrics
    ]


def _bars(metrics: Iterable[str]) -> tuple[str, list[Mapping[str, object]]]:
    return "Means over held-out classes and seeds", [
        {"uuid": metric, "type": "BAR", "runsCountToCompare": MOST_RUNS, "metricKey": metric}
        for metric in metrics
    ]

"""What MLflow holds of a ledger, compared with the ledger: one run per cell, and each point once."""

from __future__ import annotations

from collections import Counter, defaultdict

from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cells
from orchestrator.planning.specification import Specification
from orchestrator.tracking.records import Point, cell_record


def runs_of(uri: str, ledger: Ledger) -> dict[str, list[Run]]:
    """Return the runs of a ledger's sweep by cell key, the sweep's own under "summary"."""
    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = defaultdict(list)
    for run in client.search_runs(experiments, f"tags.ledger = '{ledger.identity()}'", max_results=10_000):
        found[run.data.tags.get("cell", "summary")].append(run)
    return dict(found)


def assert_exactly_once(uri: str, ledger: Ledger, wanted: Specification, cells: Cells) -> None:
    """MLflow holds one finished run per cell and one for the sweep, with the ledger's points, each once."""
    client, found = MlflowClient(uri), runs_of(uri, ledger)
    numbers = {key: len(runs) for key, runs in found.items()}
    assert numbers == dict.fromkeys([*(cell.key for cell in cells.all()), "summary"], 1)
    assert {run.info.status for (run,) in found.values()} == {"FINISHED"}
    for cell in cells.all():
        (run,) = found[cell.key]
        held = [
            Point(name, point.value, point.step, point.timestamp)
            for name in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        expected = cell_record(cell, wanted, ledger)
        assert Counter(held) == Counter(expected.points), cell.label
        assert len({(point.name, point.step) for point in held}) == len(held), cell.label
        assert expected.params.items() <= run.data.params.items(), cell.label
        assert expected.tags.items() <= run.data.tags.items(), cell.label

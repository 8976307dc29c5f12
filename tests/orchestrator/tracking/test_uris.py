"""Where records are kept, and addresses of MLflow's pages, parsed as a browser's router does."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.ledger.interpreter import python
from orchestrator.tracking.uris import (
    MOST_COMPARED,
    comparison_address,
    list_address,
    resolve_tracking_uri,
    ui_command,
)
from trainables.mistake import Mistake

METRICS = ["final/ap_msp", "final/test_accuracy"]


def parsed(address: str) -> tuple[str, str, dict[str, list[str]]]:
    """Return origin, route and parameters of an address whose route follows #."""
    parts = urlsplit(address)
    route, _, words = parts.fragment.partition("?")
    return f"{parts.scheme}://{parts.netloc}{parts.path}", route, parse_qs(words)


def test_a_comparison_names_runs_metrics_and_experiment_as_lists() -> None:
    origin, route, words = parsed(comparison_address("http://head:5000/", "3", ["a", "b"], METRICS, "mine"))
    assert (origin, route) == ("http://head:5000/", "/compare-runs")
    assert {name: json.loads(value) for name, (value,) in words.items()} == {
        "runs": ["a", "b"],
        "metrics": METRICS,
        "experiments": ["3"],
    }


def test_too_many_runs_for_an_address_are_listed_by_their_sweep() -> None:
    runs = [str(number) for number in range(MOST_COMPARED + 1)]
    address = comparison_address("http://head:5000", "3", runs, METRICS, "mine")
    assert address == list_address("http://head:5000", "3", "mine")
    _, route, words = parsed(address)
    assert (route, words) == ("/experiments/3/runs", {"searchFilter": ["tags.sweep = 'mine'"]})
    assert "compare-runs" in comparison_address("http://head:5000", "3", runs[1:], METRICS, "mine")


@pytest.mark.parametrize("uri", ["sqlite:////data/runs/mlflow.db", "postgresql://host/db"])
def test_a_store_without_a_server_is_served_by_mlflow_ui(uri: str) -> None:
    assert ui_command(uri) == f"{python()} -m mlflow ui --backend-store-uri {uri}"
    assert parsed(list_address(uri, "1", "mine"))[0] == "http://127.0.0.1:5000/"


def test_a_server_s_own_address_is_where_to_look() -> None:
    assert ui_command("https://mlflow.example.org") == "https://mlflow.example.org"


def test_where_the_records_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_tracking_uri(None, str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_tracking_uri("http://here:1", "s3://bucket/x") == "http://here:1"
    with pytest.raises(Mistake, match="--tracking-uri"):
        resolve_tracking_uri(None, "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:2")
    assert resolve_tracking_uri(None, "s3://bucket/x") == "http://there:2"

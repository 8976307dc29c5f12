"""Where records are kept, and addresses of MLflow's pages, parsed as a browser's router does."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger.interpreter import python
from orchestrator.tracking.uris import (
    origin,
    resolve_tracking_uri,
    ui_command,
)
from trainables.mistake import Mistake


@pytest.mark.parametrize("uri", ["sqlite:////data/runs/mlflow.db", "postgresql://host/db"])
def test_a_store_without_a_server_is_served_by_mlflow_ui(uri: str) -> None:
    assert ui_command(uri) == f"{python()} -m mlflow ui --backend-store-uri {uri}"
    assert origin(uri) == "http://127.0.0.1:5000"


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

"""MLflow's records written again from a ledger: in a bucket, and what MLflow lacks or refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from mlflow import MlflowClient

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.passwords import masked
from orchestrator.report import main
from tests.hand_made_ledger import finish_all, specification, write_sweep


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a bucket in an object store of this process."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: it comes with the test extra")
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    pafs.S3FileSystem(
        endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True
    ).create_dir("holdouts")
    yield "s3://holdouts"
    store.stop()


def test_mlflow_holds_the_report_of_a_sweep_in_a_bucket(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    written, cells = write_sweep(tmp_path / "runs", wanted)
    finish_all(written, wanted, cells)
    pafs.copy_files(str(tmp_path / "runs"), f"{bucket}/runs")
    ledger = Ledger(f"{bucket}/runs", "mine")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = ["mine", "--storage", f"{bucket}/runs", "--tracking-uri", uri, "--rebuild-tracking"]
    assert main(words) == 0
    assert f"The report as one page: {bucket}/runs/mine/report/report.html" in capsys.readouterr().out
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    (summary,) = client.search_runs([experiment.experiment_id], "tags.kind = 'summary'")
    names = {file.path for file in client.list_artifacts(summary.info.run_id)}
    assert {"table.md", "table.tex", "table.csv", "cells.csv", "ap-by-class.png"} <= names
    for name in names:
        artifact = Path(client.download_artifacts(summary.info.run_id, name, str(tmp_path)))
        assert artifact.read_bytes() == ledger._read("report", name)


def test_rebuilding_says_what_mlflow_refused_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    words = ["mine", "--storage", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main([*words, "--rebuild-tracking"]) == 1
    assert "MLflow refused 1 record (No module named 'boto3')" in capsys.readouterr().err


def test_rebuilding_records_without_mlflow_or_what_the_uri_needs_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, specification(seeds=1))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    uri = "postgresql+psycopg://u:p@127.0.0.1:1/x"
    words = ["mine", "--storage", str(tmp_path), "--rebuild-tracking", "--tracking-uri", uri]
    assert main(words) == 2
    assert f"{masked(uri)} needs the Python module psycopg" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(words) == 2
    assert "MLflow, which is not installed here" in capsys.readouterr().err

"""The report command on sweeps written by hand: what it says, what it writes, how it ends."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.report import main, make_report
from tests.hand_made_ledger import finish, finish_all, opened, specification, write_sweep
from tests.sweeps import run


def test_a_complete_sweep_s_table_is_its_cells_arithmetic(tmp_path: Path) -> None:
    wanted = specification()
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    report = make_report(ledger)
    # Seeds 0, 1, 2 give 30, 31, 32 percent (35, 36, 37 with rotation): mean 31 (36), deviation 1.
    (row,) = [line.split() for line in report.text.splitlines() if line.startswith("average  ")]
    assert row[2:5] == ["31.00", "±", "1.00"]
    assert "36.00" in row
    assert report.sound
    assert not report.missing
    metrics = report.summary_metrics()
    assert metrics["mean/classification/ap_msp"] == pytest.approx(0.31)
    assert metrics["std/rotation/ap_odin"] == pytest.approx(0.01)
    assert metrics["mean/rotation/test_accuracy"] == pytest.approx(0.96)


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    contents = make_report(ledger).write()
    files = {path.name: path for path in (tmp_path / "mine" / "report").iterdir()}
    assert {name: path.read_bytes() for name, path in files.items()} == contents
    assert {"table.md", "table.tex", "table.csv", "cells.csv"} <= files.keys()
    with files["cells.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["state"] for row in rows} == {"done"}
    assert {float(row["ap_msp"]) for row in rows if row["method"] == "rotation"} == {0.35}
    assert [path for name, path in files.items() if name.endswith(".png")]


def test_missing_cells_are_named_with_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish(ledger, wanted, cells.all()[0])
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 cells done" in out
    assert "classification/8/s0" in out
    assert f"python -m orchestrator.sweep --resume --name mine --storage {tmp_path}" in out


def test_a_breach_of_the_firewall_is_said_first_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        account = opened(cell, wanted, tuple("0123456789"))
        if cell.label == "rotation/3/search0":
            account.append({"split": "test", "classes": ["3"], "count": 1, "digest": "x"})
        finish(ledger, wanted, cell, account=account)
    assert main(["mine", "--storage", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.index("LEAK FIREWALL BROKEN") < out.index("AP-MSP")
    assert "rotation/3/search0" in out


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
    from mlflow import MlflowClient

    wanted = specification(seeds=1, methods=("classification",))
    written, cells = write_sweep(tmp_path / "runs", wanted)
    finish_all(written, wanted, cells)
    pafs.copy_files(str(tmp_path / "runs"), f"{bucket}/runs")
    ledger = Ledger(f"{bucket}/runs", "mine")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    words = ["mine", "--storage", f"{bucket}/runs", "--tracking-uri", uri, "--rebuild-tracking"]
    assert main(words) == 0
    assert f"Tables and figures: {bucket}/runs/mine/report" in capsys.readouterr().out.splitlines()
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
    from mlflow import MlflowClient

    def refuse(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr(MlflowClient, "log_artifacts", refuse)
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    words = ["mine", "--storage", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main([*words, "--rebuild-tracking"]) == 1
    assert "MLflow refused 1 records (No module named 'boto3')" in capsys.readouterr().err


def test_rebuilding_records_without_mlflow_or_what_the_uri_needs_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, specification(seeds=1))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    uri = "postgresql+psycopg://u:p@127.0.0.1:1/x"
    words = ["mine", "--storage", str(tmp_path), "--rebuild-tracking", "--tracking-uri", uri]
    assert main(words) == 2
    assert f"{uri} needs the Python module psycopg" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(words) == 2
    assert "MLflow, which is not installed here" in capsys.readouterr().err


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gone", "--storage", str(tmp_path)]) == 2
    assert "no sweep 'gone'" in capsys.readouterr().err
    assert main(["--storage", str(tmp_path)]) == 2
    assert "name" in capsys.readouterr().err.lower()


def test_the_command_needs_neither_torch_nor_mlflow_nor_ray(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    done = run("mine", "--storage", tmp_path, module="orchestrator.report", blocked=True)
    assert done.returncode == 0, done.stderr
    assert "average" in done.stdout

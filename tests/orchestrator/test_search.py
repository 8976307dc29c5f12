"""A search of hyperparameters from end to end: its studies, its records, its report and its journal."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.orchestrator.test_verify import edit
from tests.sweeps import cells, only_sweep, run

WORDS = (
    *("--holdouts", "3", "--seeds", "1", "--executor", "inline", "--lambda-trials", "4", "--halving", "2"),
    *("--search", "learning_rate=0.03..0.3", "--set", "epochs=4", "ap_window=1"),
)
METHODS = ("classification", "rotation")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished sweep that searches learning rates of both methods by halves, and what it printed."""
    storage = tmp_path_factory.mktemp("searched")
    done = run(*WORDS, "--storage", storage)
    assert done.returncode == 0, done.stderr
    return only_sweep(storage), done.stdout


def results(sweep: Path) -> dict[str, dict[str, Any]]:
    return {label: json.loads((folder / "result.json").read_text()) for label, folder in cells(sweep).items()}


def test_every_method_has_a_study_with_as_many_trials(searched: tuple[Path, str]) -> None:
    found = results(searched[0])
    for method in METHODS:
        trials = {label: r for label, r in found.items() if label.startswith(f"{method}/3/search")}
        assert len(trials) == 4
        rates = {r["fields"]["learning_rate"] for r in trials.values()}
        assert len(rates) == 4
        assert all(0.03 <= rate <= 0.3 for rate in rates)
        assert [r.get("stopped_at") for r in sorted(trials.values(), key=by_end)] == [1, 1, 2, None]
        (ended,) = [r for r in trials.values() if "stopped_at" not in r]
        final = found[f"{method}/3/s0"]
        assert (final["aux_weights"], final["fields"]) == (ended["aux_weights"], ended["fields"])
        at_first = {label: r["rungs"].get("1", r["values"]["value"]) for label, r in trials.items()}
        went_on = [label for label, r in trials.items() if r.get("stopped_at") != 1]
        assert min(at_first[label] for label in went_on) >= sorted(at_first.values())[1]


def by_end(result: dict[str, Any]) -> int:
    return int(result.get("stopped_at", 4))


def test_a_final_cell_is_trained_with_what_was_chosen_and_records_it(searched: tuple[Path, str]) -> None:
    sweep, printed = searched
    found, folders = results(sweep), cells(sweep)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.parent}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments() if e.name.startswith("digits")]
    params = {r.info.run_name: r.data.params for r in client.search_runs(experiments)}
    rows = {row["key"]: row for row in csv.DictReader((sweep / "report" / "cells.csv").open())}
    for method in METHODS:
        label = f"{method}/3/s0"
        rate = found[label]["fields"]["learning_rate"]
        about = json.loads((folders[label] / "cell.json").read_text())
        assert about["run"]["recipe"]["learning_rate"] == rate
        assert float(params[label]["learning_rate"]) == rate
        assert float(rows[folders[label].name]["learning_rate"]) == rate
        assert f"{rate:.3g}" in printed
    assert "learning_rate were chosen for each held-out class and method" in " ".join(printed.split())
    # 4 trials to epoch 1, 2 to epoch 2, 1 to epoch 4 make 8 of 16 epochs, in each study.
    assert "search cells that are done trained 16 of 32 epochs (50%)" in " ".join(printed.split())


def test_verify_finds_it_whole(searched: tuple[Path, str]) -> None:
    sweep, _ = searched
    whole = run(sweep.name, "--storage", sweep.parent, module="orchestrator.verify")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "that no sweep writes" not in whole.stdout


def test_verify_finds_a_trial_that_stopped_against_its_values(
    searched: tuple[Path, str], tmp_path: Path
) -> None:
    """It looks like one that stopped at the first rung, in its result and its curves."""
    sweep = tmp_path / searched[0].name
    shutil.copytree(searched[0], sweep)
    folder = next(f for f in cells(sweep).values() if '"stopped_at": 2' in (f / "result.json").read_text())
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(folder / "curves.parquet").slice(0, 1), sink)
    (folder / "curves.parquet").write_bytes(sink.getvalue())

    def stop_earlier(result: dict[str, Any]) -> None:
        result["values"].update(value=result["rungs"].pop("1"), epochs=1)
        result["stopped_at"] = 1
        digest = hashlib.sha256((folder / "curves.parquet").read_bytes()).hexdigest()
        result["attempt"]["checksums"]["curves.parquet"] = digest

    edit(folder / "result.json", stop_earlier, sealed=True)
    found = run(sweep.name, "--storage", tmp_path, "--no-tracking", module="orchestrator.verify")
    assert found.returncode == 1
    assert found.stdout.startswith("1 finding in sweep ")
    assert "ended after epoch 1, and by the values of its study it goes on." in found.stdout
    run(sweep.name, "--storage", tmp_path, "--no-tracking", "--repair", module="orchestrator.verify")
    assert not (folder / "result.json").exists()


def test_optuna_reads_the_journal(searched: tuple[Path, str]) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    sweep, _ = searched
    found = results(sweep)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(sweep / "report" / "studies.journal")))
    assert optuna.get_all_study_names(storage) == ["classification/3", "rotation/3"]
    for method in METHODS:
        study = optuna.load_study(study_name=f"{method}/3", storage=storage)
        assert len(study.trials) == 4
        for trial in study.trials:
            result = found[f"{method}/3/search{trial.number}"]
            assert trial.value == result["values"]["value"]
            assert trial.params["learning_rate"] == result["fields"]["learning_rate"]
            assert trial.params.get("lambda.rotation") == result["aux_weights"].get("rotation")
            stopped = result.get("stopped_at")
            assert trial.state == (
                optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
            )
            assert max(trial.intermediate_values) == (stopped or 4)
            assert trial.intermediate_values[stopped or 4] == trial.value
            assert trial.user_attrs["cell"] == result["key"]
            assert trial.user_attrs["seconds"] > 0.05


@pytest.mark.slow
def test_optuna_s_dashboard_lists_the_studies(searched: tuple[Path, str]) -> None:
    sweep, _ = searched
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    journal = sweep / "report" / "studies.journal"
    line = [str(Path(sys.executable).parent / "optuna-dashboard"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*line, str(journal)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            listed = asked(port, "studies")["study_summaries"]
            assert [each["study_name"] for each in listed] == ["classification/3", "rotation/3"]
            found = results(sweep)
            for each in listed:
                trials = asked(port, f"studies/{each['study_id']}?after=0")["trials"]
                assert len(trials) == 4
                for trial in trials:
                    result = found[f"{each['study_name']}/search{trial['number']}"]
                    assert trial["values"] == [result["values"]["value"]]
                    assert trial["state"] == ("Pruned" if "stopped_at" in result else "Complete")
        finally:
            server.terminate()


def asked(port: int, path: str) -> Any:
    """Return the dashboard's answer, once it listens."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}") as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the dashboard does not listen")

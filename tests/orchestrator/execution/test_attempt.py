"""One attempt at a cell: what it writes, and what it goes on from."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from orchestrator.execution import attempt as module
from orchestrator.execution.attempt import run_attempt
from orchestrator.ledger.attempts import Usage
from orchestrator.ledger.ledger import Ledger, Superseded
from orchestrator.planning.cells import Cell, lay_out
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import Assignment
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from orchestrator.planning.sweep import Sweep
from tests.sweeps import ROOT
from trainables.data.prepared import Prepared
from trainables.failures import PermanentFailure
from trainables.metrics import average_precision

EPOCHS = 4


class Attempts:
    """The cells of a small sweep, run one by one."""

    def __init__(self, storage: Path, digits: Prepared) -> None:
        request = Request(
            holdouts=("3",),
            seeds=1,
            assignments=(f"epochs={EPOCHS}", "ap_window=1", "checkpoint_seconds=0", "keep_checkpoints=true"),
        )
        drafted = draft(request)
        wanted = drafted.complete("cpu", digits.classes)
        self.ledger = Ledger(str(storage), "mine")
        data = data_request(wanted, "./data", cache="", download=False)
        self.sweep = Sweep(wanted, drafted.settings, self.ledger, data, digits.fingerprint)
        self.cells = {cell.label: cell for cell in lay_out(wanted, digits.fingerprint).all()}
        self.reports: list[int] = []

    def run(self, cell: Cell) -> dict:
        weights = {"rotation": 0.5} if cell.method == "rotation" else {}
        assignment = Assignment(cell, Hyperparameters(weights))
        return run_attempt(self.sweep, assignment, lambda _, epoch: self.reports.append(epoch))


@pytest.fixture
def attempts(tmp_path: Path, digits: Prepared) -> Attempts:
    return Attempts(tmp_path, digits)


def test_a_final_cell_leaves_curves_scores_and_the_result_that_vouches_for_them(attempts: Attempts) -> None:
    cell = attempts.cells["rotation/3/s0"]
    result = attempts.run(cell)
    assert attempts.ledger.read_result(cell.key) == result
    curves = attempts.ledger.read_curves(cell.key)
    assert [row["epoch"] for row in curves] == [1, 2, 3, 4]
    assert [row["ap/msp"] is not None for row in curves] == [False, False, False, True]
    scores = attempts.ledger.read_scores(cell.key)
    assert {"index", "label", "is_anomaly", "logits", "msp", "odin"} == set(scores.column_names)
    msp, odin = ((ROOT / "trainables" / "detectors" / f"{name}.py").read_bytes() for name in ("msp", "odin"))
    both = hashlib.sha256(odin + msp).hexdigest()  # odin.py imports from msp.py
    assert result["detectors"] == {"msp": hashlib.sha256(msp).hexdigest(), "odin": both}
    found = {name: scores[name].to_numpy(zero_copy_only=False) for name in ("msp", "is_anomaly")}
    ap = average_precision(found["msp"], found["is_anomaly"])
    assert result["values"]["final/ap_msp"] == pytest.approx(ap, abs=1e-12)
    assert attempts.reports == sorted(set(attempts.reports))


def test_a_cut_checkpoint_is_passed_over_for_the_one_before(attempts: Attempts) -> None:
    cell = attempts.cells["classification/3/s0"]
    expected = attempts.run(cell)
    folder = Path(attempts.ledger.uri, "cells", cell.key, "checkpoint")
    newest, older = (folder / name for name in attempts.ledger.checkpoints(cell.key))
    newest.write_bytes(newest.read_bytes()[:1000])
    Path(attempts.ledger.uri, "cells", cell.key, "result.json").unlink()
    again = attempts.run(cell)
    assert again["attempt"]["resumed_after_epoch"] == int(older.name.split("-")[0])
    assert again["attempt"]["number"] == 2
    assert again["values"] == expected["values"]
    assert again["checksums"] == expected["checksums"]


def test_an_epoch_keeps_the_time_at_which_it_was_first_recorded(attempts: Attempts) -> None:
    """Otherwise a tracker that was told of it would be told of another point."""
    cell = attempts.cells["classification/3/s0"]
    attempts.run(cell)
    before = [row["speed/finished_at"] for row in attempts.ledger.read_curves(cell.key)]
    attempts.ledger.remove_checkpoints(cell.key)
    Path(attempts.ledger.uri, "cells", cell.key, "result.json").unlink()
    attempts.run(cell)
    assert [row["speed/finished_at"] for row in attempts.ledger.read_curves(cell.key)] == before


def test_an_attempt_that_was_taken_over_writes_no_result(attempts: Attempts) -> None:
    cell = attempts.cells["classification/3/s0"]

    def take_over(key: str, epoch: int) -> None:
        attempts.ledger.begin(key, {})

    with pytest.raises(Superseded):
        run_attempt(attempts.sweep, Assignment(cell, Hyperparameters({})), take_over)
    assert attempts.ledger.read_result(cell.key) is None


@pytest.mark.parametrize(
    ("raised", "ending", "said"),
    [
        (RuntimeError("a worker died"), "failed", "a worker died"),
        (PermanentFailure("the loss is not finite"), "failed", "the loss is not finite"),
        (Superseded("attempt 2 has taken over"), "superseded", "attempt 2 has taken over"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (None, "done", None),
    ],
)
def test_an_attempt_leaves_a_record_of_how_it_ended(
    attempts: Attempts, raised: BaseException | None, ending: str, said: str | None
) -> None:
    cell = attempts.cells["classification/3/s0"]

    def report(_: str, epoch: int) -> None:
        if raised is not None and epoch:
            raise raised

    expected = contextlib.nullcontext() if raised is None else pytest.raises(type(raised))
    with expected:
        run_attempt(attempts.sweep, Assignment(cell, Hyperparameters({})), report, usage=Usage(cpus=2))
    (record,) = attempts.ledger.read_attempts([cell.key])[cell.key]
    assert (record["ending"], record["error"]) == (ending, said)
    assert (record["device"], record["cpus"], record["gpu_seconds"]) == ("cpu", 2, 0)
    assert 0 < record["ended"] - record["started"] < 60
    assert 1 <= record["epoch"] <= EPOCHS
    if raised is not None:
        again = attempts.run(cell)
        second = attempts.ledger.read_attempts([cell.key])[cell.key][1]
        assert second["resumed_after_epoch"] == again["attempt"]["resumed_after_epoch"] >= record["epoch"]


@pytest.mark.parametrize(("epoch", "every"), [(20.0, 60.0), (25.0, 50.0), (35.0, 35.0), (70.0, 70.0)])
def test_no_checkpoint_is_older_than_a_minute_or_an_epoch(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, epoch: float, every: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    settings = replace(attempts.sweep.settings, checkpoint_seconds=60.0)
    cell = attempts.cells["classification/3/s0"]
    attempt = attempts.ledger.begin(cell.key, {})
    written = [now[0]]
    with module._Writer(replace(attempts.sweep, settings=settings), cell.key, attempt) as writer:
        for number in range(1, 13):
            now[0] += epoch
            if writer.due():
                writer.put(number, b"state", [])
                written.append(now[0])
    ages = {after - before for before, after in itertools.pairwise(written)}
    assert ages == {every}


def test_a_cell_that_is_done_is_not_run_again(attempts: Attempts) -> None:
    """Its process may have died after the result and before anyone heard of it."""
    cell = attempts.cells["classification/3/s0"]
    expected = attempts.run(cell)
    folder = Path(attempts.ledger.uri, "cells", cell.key)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    attempts.reports.clear()
    assert attempts.run(cell) == expected
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert attempts.reports == [EPOCHS]


def test_checkpoints_of_a_done_cell_go_unless_they_are_to_stay(attempts: Attempts) -> None:
    cell = attempts.cells["rotation/3/search0"]
    attempts.run(cell)
    assert attempts.ledger.checkpoints(cell.key)
    settings = replace(attempts.sweep.settings, keep_checkpoints=False)
    attempts.sweep = replace(attempts.sweep, settings=settings)
    other = attempts.cells["rotation/3/search1"]
    attempts.run(other)
    assert not attempts.ledger.checkpoints(other.key)
    assert torch.get_num_threads() == attempts.sweep.specification.threads


def test_scores_name_the_files_of_images_that_are_files(tmp_path: Path) -> None:
    from orchestrator.sweep import main
    from tests.images import write_digits
    from tests.sweeps import cells

    write_digits(tmp_path / "data")
    words = ["image-folder", "--data", tmp_path / "data", "--storage", tmp_path / "runs", "--name", "mine"]
    words += ["--methods", "classification", "edge-energy", "--holdouts", "three", "--seeds", "1"]
    words += ["--executor", "inline", "--set", "epochs=1", "depth=10", "width=1", "image_size=16"]
    assert main([*map(str, words)]) == 0
    done = cells(tmp_path / "runs" / "mine")
    assert len(done) == 2
    for cell in done.values():
        table = pq.read_table(cell / "scores.parquet").to_pandas()
        assert list(table)[-1] == "file"
        assert all((tmp_path / "data" / file).is_file() for file in table["file"])
        of_three = table["file"].str.contains("/three/")
        assert (of_three == table["is_anomaly"]).all()

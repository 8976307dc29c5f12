"""The status command: what it says of sweeps that run, stand still or are done, and that it only reads."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.attempts import FAILED, Usage
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.planning.cells import Cell, Cells
from orchestrator.planning.specification import Specification
from orchestrator.status import main
from tests.hand_made_ledger import curve_rows, finish, finish_all, opened, specification, write_sweep
from tests.sweeps import PLAIN, ROOT, command, run


@pytest.fixture
def half(tmp_path: Path) -> tuple[Ledger, Specification, Cells]:
    """A sweep of 4 cells: one is done, one runs, one failed and one waits."""
    wanted = specification(seeds=2, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    done, running, failed, _ = cells.all()
    finish(ledger, wanted, done)
    begin(ledger, wanted, running)
    number = begin(ledger, wanted, failed)
    ledger.end_attempt(failed.key, number, FAILED, "Diverged: the loss is not finite")
    return ledger, wanted, cells


def begin(ledger: Ledger, wanted: Specification, cell: Cell, usage: Usage = Usage()) -> int:  # noqa: B008
    about = {"cell": dataclasses.asdict(cell), "opened": opened(cell, wanted, tuple("0123456789"))}
    return ledger.begin(cell.key, about, device="cpu", usage=usage)


def asked(ledger: Ledger, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([ledger.name, "--storage", ledger.storage, *words]) == 0
    return capsys.readouterr().out


def state_of(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(ledger, capsys, "--json"))
    return found


def test_a_sweep_that_runs(
    half: tuple[Ledger, Specification, Cells], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, _, cells = half
    with hold(ledger):
        out, state = asked(ledger, capsys), state_of(ledger, capsys)
    assert "1 of 4 cells done, 1 running, 1 failed, 1 waiting." in out
    assert f"\nRun by process {os.getpid()} on " in out
    assert "Diverged: the loss is not finite" in out
    (row,) = state["by_kind"]
    assert row == {
        **{"phase": "final", "method": "classification"},
        **{"done": 1, "running": 1, "failed": 1, "waiting": 1},
    }
    assert abs(state["owner"]["since"] - time.time()) < 60
    assert [each["label"] for each in state["under_way"]] == [cells.all()[1].label]
    assert [each["label"] for each in state["failures"]] == [cells.all()[2].label]


def test_nobody_runs_what_a_dead_driver_left(
    half: tuple[Ledger, Specification, Cells], capsys: pytest.CaptureFixture[str]
) -> None:
    out = asked(half[0], capsys)
    assert "1 of 4 cells done, 1 failed, 2 waiting." in out
    assert f"-m orchestrator.sweep --resume --name mine --storage {half[0].storage}" in out
    assert state_of(half[0], capsys)["owner"] is None


def test_the_pace_is_that_of_the_last_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = specification(seeds=2, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    first, second, running, _ = cells.all()
    epochs, now = wanted.recipe.epochs, time.time()
    with hold(ledger):
        # The driver has only just begun: what was before it is not its pace.
        lock = tmp_path / "mine" / "lock"
        lock.write_text(json.dumps({**json.loads(lock.read_text()), "since": now - 100}))
        for cell, ago in ((first, 3000), (second, 50)):
            attempt = begin(ledger, wanted, cell)
            about = {"number": attempt, "seconds": 50.0, "finished_at": now - ago}
            values = {"epochs": epochs, "final/ap_msp": 0.5}
            ledger.finish(cell.key, attempt, {"phase": "final", "aux_weights": {}, "values": values}, about)
        attempt = begin(ledger, wanted, running)
        rows = curve_rows(wanted, running, {})[: epochs // 2]
        rows = [{**row, "speed/finished_at": now - 50 + 10 * n} for n, row in enumerate(rows)]
        ledger.write_curves(running.key, attempt, rows)
        state = state_of(ledger, capsys)
    # 10 epochs of the second cell and 4 steps between 5 of the running one, in 100 s.
    assert state["epochs_per_second"] == pytest.approx((epochs + epochs // 2 - 1) / 100, rel=0.1)
    assert state["seconds_left"] == pytest.approx(100 * 1.5 * epochs / (1.5 * epochs - 1), rel=0.1)
    assert state["under_way"][0]["epoch"] == epochs // 2


def test_a_sweep_that_is_done_and_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    cell, other = cells.all()
    lost = begin(ledger, wanted, cell, Usage(cpus=2.0, gpus=0.5))
    record = tmp_path / "mine" / "cells" / cell.key / "attempts" / f"{lost}.json"
    ledger.end_attempt(cell.key, lost, FAILED, "out of memory")
    took = json.loads(record.read_text())
    state = state_of(ledger, capsys)
    seconds = took["ended"] - took["started"]
    assert state["cost"]["gpu_hours"] == pytest.approx(seconds * 0.5 / 3600)
    assert state["cost"]["lost_gpu_hours"] == state["cost"]["gpu_hours"]
    finish(ledger, wanted, cell)
    finish(ledger, wanted, other)
    out = asked(ledger, capsys, "--price-per-gpu-hour", "9000")
    assert "2 of 2 cells done." in out
    assert "Nobody runs it, and nothing is left to run." in out
    assert f"which is {seconds * 0.5 * 2.5:,.2f} at 9000 a GPU-hour" in out
    assert "(100.0%) were lost" in out


def test_it_reads_the_ledger_alone_and_writes_nothing(half: tuple[Ledger, Specification, Cells]) -> None:
    storage = Path(half[0].storage)
    before = {path: path.stat().st_mtime_ns for path in storage.rglob("*")}
    code = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'x'; import orchestrator.status as s; "
    code += "sys.modules['ray'] = sys.modules['mlflow'] = None; sys.exit(s.main())"
    line = [*command()[:1], "-c", code, "mine", "--storage", str(storage)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in storage.rglob("*")} == before
    with hold(half[0]):  # nor has it kept the lock
        pass


def test_without_a_name_the_sweeps_of_the_storage_are_listed(
    half: tuple[Ledger, Specification, Cells], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, storage = half[1], half[0].storage
    finish_all(*write_done(Path(storage), wanted, "other"))
    (Path(storage) / "broken").mkdir()
    (Path(storage) / "broken" / "sweep.json").write_text("{")
    with hold(half[0]):
        assert main(["--storage", storage]) == 0
    broken, mine, other = capsys.readouterr().out.splitlines()
    assert broken.startswith("broken: ")
    assert mine.startswith("mine: 1 of 4 cells done, 1 running, 1 failed, run by ")
    assert other == "other: 4 of 4 cells done"
    assert main(["--storage", storage, "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["broken", "mine", "other"]
    assert main(["--storage", f"{storage}/none"]) == 0
    assert capsys.readouterr().out == f"There is no sweep in {storage}/none.\n"


def write_done(storage: Path, wanted: Specification, name: str) -> tuple[Ledger, Specification, Cells]:
    ledger, cells = write_sweep(storage, wanted, name=name)
    return ledger, wanted, cells


def test_a_watch_is_ended_by_ctrl_c_without_a_traceback(half: tuple[Ledger, Specification, Cells]) -> None:
    line = command("mine", "--storage", half[0].storage, "--watch", module="orchestrator.status")
    environment = {**os.environ, **PLAIN, "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        while "Cost:" not in (line_ := watching.stdout.readline()):
            assert line_, watching.stderr.read()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
        assert watching.stderr.read() == ""


def test_a_watch_ends_with_the_sweep(tmp_path: Path) -> None:
    wanted = specification(seeds=1, methods=("classification",))
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    done = run("mine", "--storage", tmp_path, "--watch", module="orchestrator.status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 cells done." in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "There is no sweep 'gone'"),
        (["../mine"], "no plain word"),
        (["--watch"], "--watch watches one sweep"),
        (["mine", "--watch", "--json"], "--watch has no use with --json"),
        (["mine", "--price-per-gpu-hour", "-1"], "--price-per-gpu-hour -1 is not valid"),
    ],
)
def test_mistakes_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    write_sweep(tmp_path, specification())
    assert main([*words, "--storage", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err

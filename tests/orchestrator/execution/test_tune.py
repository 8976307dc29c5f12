"""Tune's side of the plan, without Tune: what a trial is given and what becomes of its end."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from ray.tune.search import Searcher

from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.execution.memory import GPU, HOST
from orchestrator.execution.progress import Progress
from orchestrator.execution.resources import Resources
from orchestrator.execution.trial_deaths import Deaths
from orchestrator.execution.trial_reports import ended, failed
from orchestrator.execution.tune import CellSearcher, FailureStreak, _placement
from orchestrator.execution.watchdog import Watchdog
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.plan import Plan
from orchestrator.planning.specification import RunSettings
from orchestrator.planning.studies import suggest
from orchestrator.planning.sweep import Sweep
from tests.hand_made_ledger import specification
from tests.sweeps import ROOT
from trainables.data.readers.request import DataRequest

DATA = DataRequest("digits", "", 8, 1)


def searcher(retries: int = 1, resources: Resources | None = None) -> tuple[CellSearcher, Plan]:
    wanted = specification(holdouts=("3",), seeds=1, lambda_trials=1)
    cells = lay_out(wanted, "data")
    plan = Plan(cells, suggest, retries=retries)
    work = {cell.key: 1 for cell in cells.all()}
    sweep = Sweep(wanted, RunSettings(), Ledger("/nowhere", "s"), DATA, "data")
    dispatcher = Dispatcher(plan, Progress(work, set()), None)
    return CellSearcher(
        dispatcher, Watchdog(5), Deaths(), sweep, resources or Resources(), [{"CPU": 4.0, "GPU": 2.0}]
    ), plan


def done(value: float | None = None) -> dict:
    values = {} if value is None else {"value": value, "diverged": False}
    return ended({"aux_weights": {"rotation": 0.5}, "values": values}, epochs=10)


def test_every_cell_is_handed_out_once_and_then_it_is_finished() -> None:
    found, plan = searcher()
    labels = []
    first = found.suggest("a")
    second = found.suggest("b")
    assert {first["cell"]["phase"], second["cell"]["phase"]} == {"search", "final"}
    assert found.suggest("c") is None  # rotation's final cell waits for its lambda
    found.on_trial_complete("a", done(0.9))
    third = found.suggest("c")
    assert third["cell"]["method"] == "rotation"
    assert third["aux_weights"] == first["aux_weights"]
    for trial in ("b", "c"):
        found.on_trial_complete(trial, done())
    labels = [config["cell"]["key"] for config in (first, second, third)]
    assert len(set(labels)) == 3
    assert found.suggest("d") == Searcher.FINISHED
    assert plan.counts()["done"] == 3


def test_a_dead_process_and_a_caught_error_are_tried_again_and_a_diverged_cell_is_not() -> None:
    found, plan = searcher(retries=2)
    cell = found.suggest("a")["cell"]
    found.on_trial_complete("a", None, error=True)
    assert found.suggest("c")["cell"] == cell
    found.on_trial_complete("c", failed("OSError: full", retryable=True))
    assert found.suggest("d")["cell"] == cell
    found.on_trial_complete("d", failed("Diverged: it did", retryable=False))
    (given_up,) = plan.failures()
    assert given_up.key == cell["key"]
    assert plan.failures()[given_up] == "Diverged: it did"


def test_a_trial_that_ends_without_a_word_has_lost_its_process() -> None:
    found, plan = searcher(retries=0)
    found.suggest("a")
    found.on_trial_complete("a", {"epoch": 3})
    assert list(plan.failures().values()) == ["its process died"]


def test_what_ran_out_of_memory_runs_alone_before_others_and_is_then_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, plan = searcher(resources=Resources(gpus_per_worker=0.25))
    cell = found.suggest("a")["cell"]
    found.on_trial_complete("a", failed("OutOfMemoryError: CUDA", retryable=True, short_of=GPU))
    assert "GPU memory ran out: OutOfMemoryError: CUDA); it is tried again, with its GPUs to itself" in (
        capsys.readouterr().err
    )
    again = found.suggest("b")
    assert again["cell"] == cell
    assert (again["alone"]["gpus_per_worker"], again["alone"]["cpus_per_worker"]) == (1.0, 1.0)
    assert found.suggest("c") is None  # nobody takes what it waits for
    found.on_trial_complete("b", failed("OutOfMemoryError: CUDA", retryable=True, short_of=GPU))
    (said,) = plan.failures().values()
    assert said.startswith(
        "OutOfMemoryError: CUDA; GPU memory ran out though it ran alone; what would make it fit"
    )
    for word in ("--gpus-per-worker 1", "--set micro_batch=32", "width (now 1)", "batch_size (now 64)"):
        assert word in said
    assert found.suggest("c")["alone"] is None  # the others run as ever


def test_other_failures_of_a_cell_that_runs_alone_are_tried_again() -> None:
    found, plan = searcher(retries=3)
    found.suggest("a")
    found.on_trial_complete("a", failed("MemoryError", retryable=True, short_of=HOST))
    found.suggest("b")
    found.on_trial_complete("b", failed("OSError: full", retryable=True))
    assert found.suggest("c")["alone"]["cpus_per_worker"] == 4
    assert not plan.failures()


def test_a_cell_alone_has_the_threads_that_it_always_has() -> None:
    resources = Resources()
    whole = {"cpus_per_worker": 4.0, "gpus_per_worker": 0.0}
    assert _placement(resources, {"alone": None}).bundles == [{"CPU": 1.0}]
    alone = _placement(resources, {"alone": whole})
    assert alone.bundles == [{"CPU": 1.0}, {"CPU": 3.0}]
    assert alone.strategy == "STRICT_PACK"


def test_tune_can_keep_its_copy_without_the_plan() -> None:
    found, _ = searcher()
    assert "_dispatcher" not in pickle.loads(pickle.dumps(found.__getstate__()))


def test_a_machine_on_which_nothing_works_takes_cells_ever_more_slowly() -> None:
    streak, rests = FailureStreak(), []
    for length in (0, 1, 2, 3, 4, 100):
        streak.length = length
        rests.append(streak.rest)
    assert rests == [0, 0, 1, 2, 4, 60]


LOCAL_RAY = """
import os, pathlib, ray
from orchestrator.execution.tune import ray_started
before = dict(os.environ)
for _ in range(2):
    with ray_started(None):
        ask = ray.remote(lambda: (os.environ["RAY_AUTH_MODE"], "RAY_AUTH_TOKEN" in os.environ))
        mode, own = ray.get(ask.remote())
    assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
print(mode, own, *sorted(path.name for path in pathlib.Path.home().rglob("*")))
"""


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (None, "token True"),
        pytest.param(0o600, "token False .ray auth_token", marks=pytest.mark.slow),
        pytest.param(0o644, "token True .ray auth_token", marks=pytest.mark.slow),
    ],
)
def test_a_local_ray_asks_for_a_private_token_and_leaves_no_trace(
    tmp_path: Path, mode: int | None, said: str
) -> None:
    """It uses a person's own token if nobody else can read it, and otherwise one that no file holds."""
    token = "0123456789abcdef" * 4
    file = tmp_path / ".ray" / "auth_token"
    if mode is not None:
        file.parent.mkdir()
        file.write_text(token)
        file.chmod(mode)
    code = f"import os\nos.environ['HOME'] = {str(tmp_path)!r}\n{LOCAL_RAY}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said
    if mode is not None:
        assert file.read_text() == token

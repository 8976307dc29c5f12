"""What a sweep is expected to take: counted as cells do it, and added up by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.execution.attempt import run_attempt
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out, run_of
from orchestrator.planning.costs import Images, flops_by_key
from orchestrator.planning.forecast import (
    CPU_RATES,
    MARGIN,
    Measured,
    Work,
    from_flops,
    from_probe,
    simulate,
    storage,
)
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.plan import Assignment
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import RunSettings, Specification, data_request
from orchestrator.planning.sweep import Sweep
from search_spaces import find_benchmark
from tests.hand_made_ledger import specification
from trainables.cell import CellRun
from trainables.data.prepared import Prepared
from trainables.heartbeat import listening
from trainables.pace import Pace


def images() -> Images:
    found = Images.of_benchmark(find_benchmark("digits"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "assignments", [("train_fraction=0.1",), ("epoch_length=whole", "train_fraction=0.2", "evaluate_every=1")]
)
@pytest.mark.parametrize("label", ["rotation/3/search0", "rotation/8/s0", "classification/3/s1"])
def test_a_cell_makes_the_steps_and_evaluations_that_are_counted(
    digits: Prepared, label: str, assignments: tuple[str, ...]
) -> None:
    wanted = specification(assignments=("epochs=4", "ap_window=2", "batch_size=8", *assignments))
    (cell,) = (each for each in lay_out(wanted, "data").all() if each.label == label)
    rungs = (1,) if "search" in label else ()
    weights = {task: 1.0 for task in ("rotation",) if task in label}
    running = CellRun(run_of(cell, wanted, Hyperparameters(weights)), digits, rungs=rungs)
    beats: list[str] = []
    with listening(lambda phase, *_: beats.append(phase)):
        history = list(running.epochs())
    effort = Work(wanted, images()).effort(cell, 0, None, rungs)
    assert beats.count("training") == effort.steps * (1 + len(weights))
    evaluated = [row for row in history if "val/accuracy" in row or "test/accuracy" in row]
    assert (len(history), len(evaluated)) == (effort.epochs, effort.evaluations)
    n = len(running.data.validation) if running.test is None else len(running.test.labels)
    assert effort.evaluated_images == effort.evaluations * n


def study_alone(**changes: object) -> Specification:
    """4 lambdas of one class, then 2 seeds."""
    return specification(holdouts=("3",), methods=("rotation",), seeds=2, **changes)


def one_second(assignment: Assignment, after: int) -> float:
    return 1.0


def test_finals_wait_for_their_search() -> None:
    cells = lay_out(study_alone(), "data")
    walls = {n: simulate(cells, 10, one_second, n) for n in (1, 2, 3, 100)}
    assert {found.busy for found in walls.values()} == {6.0}
    assert [found.wall for found in walls.values()] == [6.0, 3.0, 3.0, 2.0]


def test_rounds_of_a_long_study_come_one_after_another() -> None:
    wanted = study_alone(lambda_trials=20)
    cells = lay_out(wanted, "data")
    found = simulate(cells, 10, one_second, 100)
    assert found.busy == 22
    assert found.wall > 10, "only the first points are known from the start"


def test_halved_trials_stop_where_they_would() -> None:
    """9 trials to epoch 1, 3 of them to epoch 3, and one to epoch 9; then 2 final cells of 9 epochs."""
    wanted = study_alone(lambda_trials=9, halving=3, assignments=("epochs=9",))
    trained = []

    def epochs(assignment: Assignment, after: int) -> float:
        trained.append((assignment.until or 9) - after)
        return trained[-1]

    found = simulate(lay_out(wanted, "data"), 9, epochs, 1)
    assert sorted(trained) == [1] * 9 + [2] * 3 + [6] + [9] * 2
    assert found.busy == found.wall == 9 + 6 + 6 + 18


@pytest.mark.parametrize(
    "changes",
    [
        {"search_seeds": 3, "choose": "smoothed"},
        {"select": "benchmark"},
        {"aux_weight": ("0.5",)},
        {"methods": ("classification", "pixel-gaussian")},
        {"search": ("batch_size=16..64",)},
    ],
)
def test_every_cell_is_counted_once_however_lambda_is_found(changes: dict) -> None:
    wanted = specification(**changes)
    cells = lay_out(wanted, "data")
    assert simulate(cells, 10, one_second, 2).busy == len(cells.all())


def test_a_probe_s_pace_becomes_hours_and_money_s_range() -> None:
    wanted = study_alone(assignments=("epochs=4", "ap_window=1", "batch_size=32"))
    pace = Pace(begin=1.0, step=0.1, epoch=0.0, evaluated_image=0.001, end=0.5)
    paces = {("search", "rotation"): pace, ("final", "rotation"): pace}
    measured = Measured(paces, 20.0, "here", at_once=2, processes=2, around=3.0)
    found = from_probe(wanted, images(), RunSettings(), measured)
    kept = sum(images().train) - 110  # images of 3
    aside = sum(round(0.2 * n) for name, n in zip("0123456789", images().train, strict=True) if name != "3")
    search = 1.5 + 4 * ((kept - aside) // 32) * 0.1 + aside * 0.001
    final = 1.5 + 4 * (kept // 32) * 0.1 + sum(images().test) * 0.001
    middle = 4 * search + 2 * final
    assert found.hours.low == pytest.approx((1 - MARGIN) * middle / 3600)
    assert found.hours.high == pytest.approx((1 + MARGIN) * middle / 3600)
    assert found.wall.high == pytest.approx((1 + MARGIN) * (3 + middle / 2))


def test_noise_widens_the_range() -> None:
    wanted = study_alone()
    paces = {(phase, "rotation"): Pace(1, 1, 1, 1, 1, noise=0.1) for phase in ("search", "final")}
    measured = Measured(paces, 20.0, "here", at_once=1, processes=1, around=0.0)
    found = from_probe(wanted, images(), RunSettings(), measured).hours
    assert found.high / found.low == pytest.approx((1.2 + MARGIN) / (0.8 - MARGIN))


def test_other_work_on_the_machine_raises_the_upper_ends() -> None:
    paces = {(phase, "rotation"): Pace(1, 1, 1, 1, 1, share=0.5) for phase in ("search", "final")}
    measured = Measured(paces, 20.0, "here", at_once=1, processes=1, around=0.0)
    found = from_probe(study_alone(), images(), RunSettings(), measured)
    for each in (found.hours, found.wall):
        assert each.high / each.low == pytest.approx(2 * (1 + MARGIN) / (1 - MARGIN))


def test_threads_and_workers_count_as_cpus() -> None:
    wanted = dataclasses.replace(study_alone(), threads=2, workers=3)
    paces = {(phase, "rotation"): Pace(3600, 0, 0, 0, 0) for phase in ("search", "final")}
    measured = Measured(paces, 20.0, "here", at_once=1, processes=3, around=0.0)
    found = from_probe(wanted, images(), RunSettings(), measured)
    assert found.hours.low == pytest.approx((1 - MARGIN) * 6 * 2 * 3)


def test_without_a_probe_hours_are_flops_at_the_rates_that_are_said() -> None:
    wanted = study_alone()
    found = from_flops(wanted, images(), RunSettings(), at_once=1)
    flops = sum(flops_by_key(lay_out(wanted, "data").all(), wanted, images()).values())
    low, high = CPU_RATES
    assert found.hours.low == pytest.approx(flops / high / 3600)
    assert found.hours.high == pytest.approx(flops / low / 3600)
    assert found.wall.high == pytest.approx(flops / low)


def test_the_ledger_is_about_as_large_as_was_said(tmp_path: Path, digits: Prepared) -> None:
    words = ("epochs=3", "ap_window=3", "train_fraction=0.1")
    asked = draft(Request(holdouts=("3",), seeds=2, methods=("classification",), assignments=words))
    wanted = asked.complete("cpu", digits.classes)
    data = data_request(wanted, "./data", cache="", download=False)
    sweep = Sweep(wanted, asked.settings, Ledger(str(tmp_path), "mine"), data, digits.fingerprint)
    for cell in lay_out(wanted, digits.fingerprint).all():
        run_attempt(sweep, Assignment(cell, Hyperparameters({})), lambda *_: None)
    said = storage(wanted, images(), RunSettings(), at_once=1)
    sizes: dict[str, int] = {}
    for file in tmp_path.rglob("*.*"):
        sizes[file.name] = sizes.get(file.name, 0) + file.stat().st_size
    assert sizes["weights.safetensors"] == pytest.approx(said.weights, rel=0.1)
    assert sizes["scores.parquet"] == pytest.approx(said.scores, rel=0.3)
    assert sizes["window.parquet"] == pytest.approx(said.windows, rel=0.3)
    assert sum(sizes.values()) == pytest.approx(said.kept, rel=0.2)

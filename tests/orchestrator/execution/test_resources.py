"""How many trials fit, and which are refused before anything starts."""

from __future__ import annotations

import pytest

from orchestrator.execution.memory import GPU, HOST
from orchestrator.execution.resources import Resources, cells_at_once, check_fits
from orchestrator.ledger.attempts import Usage
from trainables.mistake import Mistake

LAPTOP = [{"CPU": 2.0}]
CLUSTER = [{"CPU": 0.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}]


def test_the_usage_of_a_cell_is_that_of_all_its_workers() -> None:
    assert Resources(cpus_per_worker=2, gpus_per_worker=0.5, workers=4).usage == Usage(cpus=8, gpus=2)


@pytest.mark.parametrize(
    ("resources", "nodes", "fit"),
    [
        (Resources(), LAPTOP, 2),
        (Resources(cpus_per_worker=2), LAPTOP, 1),
        (Resources(cpus_per_worker=0.5), LAPTOP, 4),
        (Resources(max_concurrent=1), LAPTOP, 1),
        (Resources(max_concurrent=9), LAPTOP, 2),
        (Resources(gpus_per_worker=1), CLUSTER, 8),
        (Resources(gpus_per_worker=0.25, cpus_per_worker=0.5), CLUSTER, 32),
        (Resources(gpus_per_worker=0.4, cpus_per_worker=0.1), CLUSTER, 16),  # two on each of 8 GPUs
        (Resources(workers=2), LAPTOP, 1),
        (Resources(workers=4, gpus_per_worker=1), CLUSTER, 2),
        (Resources(workers=3, gpus_per_worker=1), CLUSTER, 2),
        (Resources(workers=8, gpus_per_worker=1), CLUSTER, 1),
    ],
)
def test_cells_at_once(resources: Resources, nodes: list, fit: int) -> None:
    check_fits(resources, nodes)
    assert cells_at_once(resources, nodes) == fit


@pytest.mark.parametrize(
    ("resources", "nodes", "said"),
    [
        (Resources(cpus_per_worker=4), LAPTOP, "--cpus-per-worker 4 .* largest has 2"),
        (Resources(gpus_per_worker=1), LAPTOP, "--gpus-per-worker 1 .* largest has 0"),
        (Resources(workers=3), LAPTOP, "--workers 3 .* hold 2 workers"),
        (Resources(workers=9, gpus_per_worker=1), CLUSTER, "--workers 9 .* hold 8 workers"),
        (Resources(gpus_per_worker=5), CLUSTER, "--gpus-per-worker 5 .* largest has 4"),
    ],
)
def test_what_can_never_be_placed_is_refused(resources: Resources, nodes: list, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        check_fits(resources, nodes)


def test_a_group_and_the_trial_that_looks_after_it_fit_where_its_workers_do() -> None:
    resources = Resources(workers=2)
    assert resources.trial["cpu"] + 2 * resources.worker["CPU"] <= 2.0
    assert resources.trial["cpu"] > 0
    assert Resources().trial == {"cpu": 1.0, "gpu": 0.0}


@pytest.mark.parametrize(
    ("resources", "short", "nodes", "cpus", "gpus"),
    [
        (Resources(), HOST, LAPTOP, 2, 0),
        (Resources(), GPU, LAPTOP, 1, 0),
        (Resources(cpus_per_worker=2), HOST, CLUSTER, 8, 0),
        (Resources(gpus_per_worker=0.25), GPU, CLUSTER, 1, 1),
        (Resources(gpus_per_worker=2), GPU, CLUSTER, 1, 2),
        (Resources(workers=2), HOST, LAPTOP, 1, 0),
        (Resources(workers=2), HOST, CLUSTER, 8, 0),
        (Resources(workers=3), HOST, CLUSTER, 4, 0),
        (Resources(workers=2, gpus_per_worker=0.25), GPU, [{"CPU": 4, "GPU": 1}], 1, 0.5),
    ],
)
def test_alone_a_cell_takes_as_much_as_leaves_no_room_for_others(
    resources: Resources, short: str, nodes: list, cpus: float, gpus: float
) -> None:
    alone = resources.alone(short, nodes)
    assert (alone.cpus_per_worker, alone.gpus_per_worker) == (cpus, gpus)
    check_fits(alone, nodes)

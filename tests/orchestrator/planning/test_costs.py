"""A plan's cost in FLOPs, by hand for one cell, and as --dry-run prints it."""

from __future__ import annotations

import pytest

from orchestrator.planning.cells import lay_out
from orchestrator.planning.costs import Images, cell_flops
from search_spaces import find_benchmark
from tests.hand_made_ledger import specification
from trainables.networks.flops import forward_flops, training_flops


def test_a_cell_s_cost_is_its_images_times_an_image_s() -> None:
    benchmark = find_benchmark("cifar10")
    wanted = specification(
        benchmark.classes, benchmark="cifar10", assignments=("epochs=3", "ap_window=2", "train_fraction=0.5")
    )
    images = Images.of_benchmark(benchmark)
    assert images is not None
    cells = {cell.label: cell for cell in lay_out(wanted, "data").all()}
    image, (forward, _) = training_flops(wanted.recipe, 3, 9), forward_flops(wanted.recipe, 3, 9)
    rotation = training_flops(wanted.recipe, 3, 4)
    final = cell_flops(cells["classification/cat/s0"], wanted, images)
    assert final == 3 * 9 * 2500 * image + 2 * 10000 * 3 * forward
    search = cell_flops(cells["rotation/cat/search0"], wanted, images)
    assert search == 3 * 9 * 2000 * (image + rotation) + 9 * 500 * forward


def test_a_method_that_trains_nothing_costs_a_fit_and_one_score_of_each_test_image() -> None:
    benchmark = find_benchmark("cifar10")
    methods = ("pixel-gaussian", "edge-energy")
    images = Images.of_benchmark(benchmark)
    assert images is not None
    for fidelity in ("paper", "reference"):
        asked = ("train_fraction=0.5", f"fidelity={fidelity}")
        wanted = specification(benchmark.classes, benchmark="cifar10", methods=methods, assignments=asked)
        cells = {cell.label: cell for cell in lay_out(wanted, "data").all()}
        gaussian, edges = (cell_flops(cells[f"{method}/cat/s0"], wanted, images) for method in methods)
        d = 32 * 32
        assert gaussian == 3 * (2 * 9 * 2500 * d**2 + d**3 // 3 + 10000 * d**2)
        assert edges == 10000 * d * (6 + 36 + 4)


def test_the_paper_s_table_3_costs_what_was_worked_out_for_it() -> None:
    """2.6e19 FLOPs, by the network's published cost; evaluations come on top."""
    benchmark = find_benchmark("cifar10")
    wanted = specification(benchmark.classes, benchmark="cifar10", aux_weight=("0.5",))
    images = Images.of_benchmark(benchmark)
    assert images is not None
    total = sum(cell_flops(cell, wanted, images) for cell in lay_out(wanted, "data").all())
    assert total == pytest.approx(2.6e19, rel=0.03)


def test_unequal_classes_of_a_known_total_have_a_cost() -> None:
    images = Images.of_benchmark(find_benchmark("imagenet-dog"))
    assert images is not None
    assert sum(images.train) == 14864, "dogs of the paper's table 1"
    assert max(images.train) - min(images.train) <= 1

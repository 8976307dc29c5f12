"""A plan's cost in FLOPs, by hand for one cell, and as --dry-run prints it."""

from __future__ import annotations

import pytest

from orchestrator.planning.cells import lay_out
from orchestrator.planning.costs import Images, cell_flops
from orchestrator.planning.dry_run import describe_plan, readable
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
    assert search == 3 * 9 * 2000 * (image + rotation) + 3 * 9 * 500 * forward


def test_the_paper_s_table_3_costs_what_was_worked_out_for_it() -> None:
    """2.6e19 FLOPs, by the network's published cost; evaluations come on top."""
    benchmark = find_benchmark("cifar10")
    wanted = specification(benchmark.classes, benchmark="cifar10", aux_weight=("0.5",))
    images = Images.of_benchmark(benchmark)
    assert images is not None
    total = sum(cell_flops(cell, wanted, images) for cell in lay_out(wanted, "data").all())
    assert total == pytest.approx(2.6e19, rel=0.03)


def test_the_plan_lists_cells_by_phase_and_method() -> None:
    text = describe_plan(specification(seeds=3), "mine")
    rows = [line.split() for line in text.splitlines()]
    assert ["search", "rotation", "8"] in [row[:3] for row in rows]
    assert ["final", "rotation", "6"] in [row[:3] for row in rows]
    assert ["all", "20"] in [row[:2] for row in rows]


def test_a_folder_s_cost_waits_for_its_images() -> None:
    text = describe_plan(specification(("a", "b", "c"), benchmark="image-folder"), "mine")
    assert "per image and epoch" in text


def test_unequal_classes_of_a_known_total_have_a_cost() -> None:
    images = Images.of_benchmark(find_benchmark("imagenet-dog"))
    assert images is not None
    assert sum(images.train) == 14864, "dogs of the paper's table 1"
    assert max(images.train) - min(images.train) <= 1


def test_a_name_that_was_not_given_is_not_promised() -> None:
    assert "Plan of a sweep of digits (" in describe_plan(specification(), None)


def test_flops_are_readable() -> None:
    assert readable(3.21e12) == "3.21 TFLOPs"
    assert readable(2.6e19) == "26.00 EFLOPs"
    assert readable(12) == "12 FLOPs"

"""What --dry-run says before anything runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.planning.costs import Images
from orchestrator.planning.dry_run import describe_plan, look_ahead, readable
from orchestrator.planning.request import Request, draft
from search_spaces import find_benchmark
from tests.hand_made_ledger import specification
from tests.images import write_folder
from trainables.networks.flops import training_flops


def test_the_plan_lists_cells_by_phase_and_method() -> None:
    text = describe_plan(specification(seeds=3), "mine", None)
    rows = [line.split() for line in text.splitlines()]
    assert ["search", "rotation", "8"] in [row[:3] for row in rows]
    assert ["final", "rotation", "6"] in [row[:3] for row in rows]
    assert ["all", "20"] in [row[:2] for row in rows]


def test_a_folder_s_cost_waits_for_its_images() -> None:
    text = describe_plan(specification(("a", "b", "c"), benchmark="image-folder"), "mine", None)
    cost = readable(training_flops(find_benchmark("image-folder").recipe, 3, 10))
    assert f"{cost} per image and epoch for classification" in text
    turned = readable(training_flops(find_benchmark("image-folder").recipe, 3, 4))
    assert f"; auxiliary tasks come on top (rotation: {turned})." in text
    alone = specification(("a", "b", "c"), benchmark="image-folder", methods=("classification",))
    assert "auxiliary" not in describe_plan(alone, "mine", None)


def test_a_name_that_was_not_given_is_not_promised() -> None:
    assert "Plan of a sweep of digits (" in describe_plan(specification(), None, None)


def test_what_studies_try_is_said() -> None:
    asked = {"search": ("batch_size=16..64",), "halving": 3, "lambda_trials": 9}
    searched = specification(assignments=("epochs=9", "micro_batch=0"), **asked)
    text = describe_plan(searched, "mine", None)
    assert "batch_size: searched in 16..64" in text
    assert "9 epochs, batch searched" in text
    assert "studies: 9 trials (9 to epoch 1, 3 to epoch 3, 1 to epoch 9) each" in text
    smoothed = describe_plan(specification(search_seeds=3, choose="smoothed"), "mine", None)
    assert "studies: 4 trials of 3 seeds each; chosen by smoothed" in smoothed


def test_flops_are_readable() -> None:
    assert readable(3.21e12) == "3.21 TFLOPs"
    assert readable(2.6e19) == "26.00 EFLOPs"
    assert readable(12) == "12 FLOPs"


def test_images_of_a_folder_are_counted_by_name(tmp_path: Path) -> None:
    counts = {"train": {"ant": 3, "bee": 4, "cow": 5}, "test": {"ant": 1, "bee": 2, "cow": 2}}
    for path in write_folder(tmp_path, counts):
        Path(path).write_bytes(b"not an image")
    request = Request("image-folder", data=str(tmp_path))
    found, images, _ = look_ahead(request, draft(request))
    assert images == Images(("ant", "bee", "cow"), (3, 4, 5), (1, 2, 2), channels=3)
    assert found.holdouts == images.classes
    rows = [line.split() for line in describe_plan(found, None, images).splitlines()]
    assert ["final", "classification", "9"] in [row[:3] for row in rows]
    said = describe_plan(found, None, images)
    assert "images: 12 for training and 5 for the test; by class: ant 3+1, bee 4+2, cow 5+2" in said


def test_a_folder_of_ten_thousand_images_is_counted_at_once(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(5000):
            (tmp_path / name / f"{number}.png").touch()
    request = Request("image-folder", data=str(tmp_path))
    began = time.process_time()
    _, images, _ = look_ahead(request, draft(request))
    assert time.process_time() - began < 3  # seconds of a CPU
    assert images == Images(("ant", "bee"), (4000, 4000), (1000, 1000), channels=3)


def test_a_folder_that_was_not_named_is_where_the_sweep_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request("image-folder")
    assert look_ahead(request, draft(request))[1] is None
    for path in write_folder(
        tmp_path / "data", {"train": {"ant": 3, "bee": 4}, "test": {"ant": 1, "bee": 2}}
    ):
        Path(path).write_bytes(b"not an image")
    _, images, _ = look_ahead(request, draft(request))
    assert images == Images(("ant", "bee"), (3, 4), (1, 2), channels=3)


def test_of_many_classes_the_first_are_named() -> None:
    names = tuple(f"class{number}" for number in range(12))
    many = Images(names, (2,) * 12, (1,) * 12, channels=3)
    said = describe_plan(specification(names, benchmark="image-folder"), None, many)
    assert "class9 2+1, and 2 more classes" in said
    assert "class10" not in said.split("by class")[1].splitlines()[0]


def test_the_cost_of_a_fixed_benchmark_needs_no_data() -> None:
    request = Request("cifar10", holdouts=("cat",))
    found, images, _ = look_ahead(request, draft(request))
    assert found.holdouts == ("cat",)
    assert images == Images.of_benchmark(find_benchmark("cifar10"))

"""What is said of data that does not do for a sweep, before any of it is trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.planning.data import check_data, open_data
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification
from tests.images import folder_request, write_folder
from trainables.data.prepared import Prepared
from trainables.mistake import Mistake

CLASSES = ("a", "b", "c")


def data(train: tuple[int, ...], test: tuple[int, ...] = (50, 50, 50), classes: tuple[str, ...] = CLASSES):
    """Prepared data of so many images a class, of which nothing is opened."""
    counts = {"train": train, "test": test}
    return Prepared(classes, counts, "", 56, 3, (), Path("nowhere"), {}, {})


def sweep(
    method: str,
    workers: int,
    *assignments: str,
    holdout: str = "a",
    weight: tuple[str, ...] = (),
    cpc: int = 4,
) -> Specification:
    """A sweep of 56x56 images in batches of 8 a worker, `cpc` of them for cpc."""
    settings = ("image_size=56", "batch_size=8", f"cpc_batch_size={cpc}", *assignments)
    request = Request("image-folder", (method,), (holdout,), 1, "holdout", None, weight, settings, workers)
    return draft(request).complete("cpu", None)


def refusal(specification: Specification, prepared: Prepared) -> str:
    """What is said against it, if anything."""
    try:
        check_data(specification, prepared)
    except Mistake as mistake:
        return str(mistake)
    return ""


@pytest.mark.parametrize("holdout", ["none", "b"])
def test_a_class_called_none_is_a_mistake(holdout: str) -> None:
    prepared = data((50, 50, 50), classes=("none", "b", "c"))
    with pytest.raises(Mistake, match="has a class 'none', .*: rename"):
        check_data(sweep("classification", 1, holdout=holdout), prepared)


def test_without_one_nothing_may_be_held_out() -> None:
    check_data(sweep("classification", 2, holdout="none"), data((50, 50, 50)))


@pytest.mark.parametrize(
    ("method", "workers", "kept", "said"),
    [
        # What is left to train on: the held-out class does not count.
        ("classification", 4, (2, 1), "4 workers cannot share 3 training images in a final cell with 'a'"),
        ("classification", 4, (2, 2), ""),
        # A batch is at most the images, a multiple of the workers; rotation turns a quarter of it, at least
        # one image, four times: a batch of 5 gives 4 examples, one of 10 gives 8.
        ("rotation", 5, (4, 5), "5 workers cannot share 4 examples of rotation per step"),
        ("rotation", 5, (5, 5), ""),
        ("rotation", 4, (2, 2), ""),
        ("center-mask+rotation", 7, (7, 6), "share 4 examples of rotation"),
        # cpc takes as many images as its batch has to classification's, here half: 3 of a batch of 6.
        ("cpc", 6, (6, 5), "6 workers cannot share 3 examples of cpc per step"),
        ("cpc", 6, (6, 6), ""),
        ("cpc", 6, (100, 100), ""),
        ("rotation+cpc", 6, (6, 5), "cannot share 3 examples of cpc"),
    ],
)
def test_every_worker_needs_an_image_in_every_step(
    method: str, workers: int, kept: tuple[int, int], said: str
) -> None:
    weight = () if method == "classification" else ("0.5",)
    found = refusal(sweep(method, workers, weight=weight), data((50, *kept)))
    assert said in found
    assert bool(found) == bool(said)


def test_a_small_share_for_cpc_does_not_reach_many_workers_where_images_are_few() -> None:
    """One image of CPC's to eight of classification's: a batch of all 20 images has 2, one of 32 has 4."""
    specification = sweep("cpc", 4, cpc=1, weight=("0.5",))
    assert "4 workers cannot share 2 examples of cpc" in refusal(specification, data((50, 10, 10)))
    assert refusal(specification, data((50, 16, 16))) == ""


def test_a_search_has_fewer_images_than_what_follows_it() -> None:
    prepared = data((50, 5, 5))  # a search trains on 8 of the 10
    assert refusal(sweep("cpc", 9, cpc=8, weight=("0.5",)), prepared) == ""
    said = refusal(sweep("cpc", 9, cpc=8), prepared)
    assert "9 workers cannot share 8 training images in a search cell with 'a' held out" in said
    assert refusal(sweep("cpc", 8, cpc=8), prepared) == ""


def test_a_part_of_the_training_images_is_what_the_workers_share() -> None:
    prepared = data((50, 5, 5))
    assert "9 workers cannot share 8" in refusal(sweep("classification", 9, "train_fraction=0.8"), prepared)
    assert refusal(sweep("classification", 8, "train_fraction=0.8"), prepared) == ""


def test_workers_share_the_test_images_with_the_held_out_class() -> None:
    few = data((50, 50, 50), (1, 1, 1))
    assert "4 workers cannot share 3 test images" in refusal(sweep("classification", 4), few)
    assert refusal(sweep("classification", 3), few) == ""


def test_any_holdout_may_be_the_one_that_leaves_too_few() -> None:
    prepared = data((40, 2, 2))
    request = Request("image-folder", ("classification",), ("b", "a"), workers=5)
    said = refusal(draft(request).complete("cpu", CLASSES), prepared)
    assert "5 workers cannot share 4 training images in a final cell with 'a' held out" in said


def test_test_images_that_are_training_images_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in write_folder(tmp_path / "data", {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}):
        if "train/b" in path:
            shutil.copy(path, tmp_path / "data" / "test" / "b" / f"again-{Path(path).name}")
    for _ in range(2):  # the second time the prepared data is there
        open_data(folder_request(tmp_path / "data", tmp_path / "cache"))
        said = capsys.readouterr().err
        assert (
            "Warning: 2 test images equal a training image in every pixel, so that networks are tested"
            in said
        )
        assert f"{tmp_path}/data/test/b/again-0000.png is {tmp_path}/data/train/b/0000.png; " in said

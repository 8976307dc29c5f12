"""Groups of images, which stay on one side of every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from search_spaces import find_benchmark
from tests.images import folder_request, noise
from trainables.data.cache import prepare
from trainables.data.holdout import open_final, open_search
from trainables.data.prepared import Prepared
from trainables.data.readers.grouping import groups_aside, groups_of_paths
from trainables.mistake import Mistake
from trainables.run import Run

PATTERN = r"/p(\d+)_"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "no regular expression"),
        ("patient", "has no part in parentheses"),
        (r"x(\d)", "finds no group in a/p1_2.png"),
        (r"a/(x?)", "finds no group in a/p1_2.png"),
    ],
)
def test_patterns_that_tell_no_group_are_refused(pattern: str, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        groups_of_paths(pattern, ["a/p1_2.png"])


def test_the_first_parentheses_name_the_group() -> None:
    assert groups_of_paths(r"(p\d)_(\d)", ["a/p1_2.png", "b/p1_3.png", "a/p2_2.png"]) == ["p1", "p1", "p2"]


@pytest.mark.parametrize("seed", range(20))
def test_whole_groups_are_set_aside_about_as_many_as_are_wanted(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, 60, 600)
    labels = (groups + random.integers(0, 2, 600)) % 3  # a group has images of two labels
    wanted = [round(count * 0.2) for count in np.bincount(labels).tolist()]
    aside = groups_aside(labels, [str(group) for group in groups], wanted, random)
    assert not set(groups[aside]) & set(groups[~aside])
    assert np.abs(np.bincount(labels[aside], minlength=3) - wanted).max() <= 12


def test_a_label_of_two_large_groups_has_one_on_each_side_and_one_of_a_single_group_has_not() -> None:
    labels = np.repeat([0, 0, 1, 1, 2], 10)
    groups = np.repeat(["a", "b", "c", "d", "e"], 10).tolist()
    aside = groups_aside(labels, groups, [2, 2, 2], np.random.default_rng(0))
    assert np.bincount(labels[aside], minlength=3).tolist() == [10, 10, 0]


def write_patients(folder: Path, *, patients: int = 12, images: int = 4) -> None:
    """Two classes that share the patients, and one with some of its own; each has several images."""
    seed = 0
    for name, first in (("ant", 0), ("bee", 0), ("cow", 100)):
        (folder / name).mkdir(parents=True)
        for patient in range(patients):
            for number in range(images):
                seed += 1
                path = folder / name / f"p{first + patient}_{number}.png"
                Image.fromarray(noise(seed)).save(path)


def run(holdout: str, seed: int = 0) -> Run:
    recipe = find_benchmark("image-folder").recipe
    return Run("image-folder", holdout, "classification", 0, recipe, {}, search=True, sweep_seed=seed)


def of_rows(prepared: Prepared, classes: tuple[str, ...], rows: torch.Tensor) -> set[str]:
    """The patients of rows of a table of these classes."""
    assert prepared.train_groups is not None
    every = [g for name in classes for g in prepared.train_groups[prepared.classes.index(name)]]
    return {every[row] for row in rows.tolist()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("holdout", ["none", "bee"])
def test_no_patient_is_on_both_sides_of_a_split(tmp_path: Path, holdout: str, seed: int) -> None:
    write_patients(tmp_path / "data")
    prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache", groups=PATTERN))
    tested = {Path(file).name.split("_")[0][1:] for file in prepared.test_files or ()}
    assert prepared.train_groups is not None
    assert tested
    assert not tested & {group for groups in prepared.train_groups for group in groups}
    assert sum(prepared.counts["test"]) == pytest.approx(0.2 * 144, abs=8)
    data = open_search(prepared, run(holdout, seed))
    training, validation = (of_rows(prepared, data.classes, p.rows) for p in (data.training, data.validation))
    assert not training & validation
    whole = open_final(prepared, run(holdout, seed)).training
    both = torch.cat([data.training.rows, data.validation.rows]).sort().values
    assert torch.equal(both, whole.rows)
    assert len(data.validation) == pytest.approx(0.2 * len(whole), abs=8)
    for label in range(len(data.classes)):
        assert (data.training.labels == label).any()
        assert (data.validation.labels == label).any()
        assert torch.equal(whole.labels[whole.labels == label].unique(), torch.tensor([label]))


def test_groups_make_other_data_of_the_same_images(tmp_path: Path) -> None:
    write_patients(tmp_path / "data" / "train")
    write_patients(tmp_path / "data" / "test", patients=1)
    plain = prepare(folder_request(tmp_path / "data", tmp_path / "cache"))
    grouped = prepare(folder_request(tmp_path / "data", tmp_path / "cache", groups=PATTERN))
    assert plain.train_groups is None
    assert plain.digests == grouped.digests
    assert plain.fingerprint != grouped.fingerprint
    assert grouped.groups_in_both == ("0", "100")
    assert prepare(folder_request(tmp_path / "data", tmp_path / "cache")).train_groups is None


def test_a_class_of_one_patient_cannot_be_divided(tmp_path: Path) -> None:
    write_patients(tmp_path / "data", patients=1)
    request = folder_request(tmp_path / "data", tmp_path / "cache", groups=PATTERN)
    with pytest.raises(Mistake, match=r"groups of the class 'ant' cannot be divided into training and test"):
        prepare(request)
    write_patients(tmp_path / "other" / "train", patients=1)
    write_patients(tmp_path / "other" / "test", patients=1)
    prepared = prepare(folder_request(tmp_path / "other", tmp_path / "cache", groups=PATTERN))
    with pytest.raises(Mistake, match=r"divided into training and validation images.*--aux-weight"):
        open_search(prepared, run("none"))


def test_a_column_of_parquet_files_names_groups(tmp_path: Path) -> None:
    write_patients(tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    patients = [int(file.name.split("_")[0][1:]) for file in files]
    table = {"image": [f.read_bytes() for f in files], "label": [f.parent.name for f in files]}
    pq.write_table(pa.table({**table, "patient": patients}), tmp_path / "train.parquet")
    prepared = prepare(folder_request(tmp_path / "train.parquet", tmp_path / "cache", groups="patient"))
    assert prepared.train_groups is not None
    trained = {group for groups in prepared.train_groups for group in groups}
    assert 12 < len(trained) < 24
    assert sum(prepared.counts["train"]) == sum(patients.count(int(group)) for group in trained)
    for groups, said in (
        ("doctor", "names no column of .*patient \\(int64\\)"),
        ("image", "has no group in the"),
    ):
        with pytest.raises(Mistake, match=said):
            prepare(folder_request(tmp_path / "train.parquet", tmp_path / "cache", groups=groups))


def test_data_that_tells_no_groups_has_none(tmp_path: Path) -> None:
    request = folder_request(
        tmp_path, tmp_path / "cache", groups="x", reader="digits", name="digits", channels=1
    )
    with pytest.raises(Mistake, match="has no use for digits"):
        prepare(request)

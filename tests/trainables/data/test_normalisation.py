"""Statistics of a run's own training images, counted once for all runs that train on the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.images import folder_request, write_folder
from trainables.cell import CellRun
from trainables.data import normalisation
from trainables.data.cache import prepare
from trainables.data.holdout import Part, open_final, open_search
from trainables.data.image_table import ImageTable
from trainables.data.normalisation import Normalisation, measure
from trainables.data.prepared import Prepared


def part_of(seed: int = 0, rows: list[int] | None = None) -> Part:
    pixels = np.random.default_rng(seed).integers(0, 200, (20, 6, 6, 3), dtype=np.uint8)
    table = ImageTable.from_arrays("train", {"ant": pixels[:12], "bee": pixels[12:]})
    chosen = torch.arange(20) if rows is None else torch.tensor(rows)
    return Part(table, chosen, torch.zeros(len(chosen), dtype=torch.int64))


def equal(one: Normalisation, other: Normalisation) -> bool:
    return torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The parts whose images were looked at."""
    seen: list[Part] = []
    count = normalisation._counted
    monkeypatch.setattr(normalisation, "_counted", lambda part: seen.append(part) or count(part))
    return seen


def test_kept_statistics_are_those_of_the_images_bit_for_bit(tmp_path: Path, counted: list[Part]) -> None:
    plain = measure(part_of())
    assert all(equal(measure(part_of(), tmp_path), plain) for _ in range(3))
    assert len(counted) == 2, "once without the folder, and once with it"


def test_each_choice_of_images_has_its_own(tmp_path: Path, counted: list[Part]) -> None:
    parts = [part_of(), part_of(seed=1), part_of(rows=[*range(19)]), part_of(rows=[0, 3])]
    for part in parts:
        assert equal(measure(part, tmp_path), measure(part))
    assert len(list(tmp_path.iterdir())) == len(parts)
    assert len(counted) == 2 * len(parts)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"counts": [[1]], "digest": "x"}', "\\x00"])
def test_a_damaged_file_is_written_again(tmp_path: Path, counted: list[Part], content: str) -> None:
    plain = measure(part_of(), tmp_path)
    (file,) = tmp_path.iterdir()
    sound = file.read_text()
    file.write_text(content)
    assert equal(measure(part_of(), tmp_path), plain)
    assert (file.read_text(), len(counted)) == (sound, 2)
    altered = json.loads(sound)
    altered["counts"][0][0] += 1
    file.write_text(json.dumps(altered))
    assert equal(measure(part_of(), tmp_path), plain)


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    assert equal(measure(part_of(), tmp_path / "missing"), measure(part_of()))


def test_what_is_kept_is_of_a_cell_s_own_training_images_alone(
    tmp_path: Path, quick_run: Callable, counted: list[Part]
) -> None:
    counts = {"train": {"ant": 10, "bee": 10, "cow": 10}, "test": {"ant": 2, "bee": 2, "cow": 2}}
    write_folder(tmp_path / "images", counts)
    prepared = prepare(folder_request(tmp_path / "images", tmp_path / "cache"))
    runs = [
        replace(quick_run(method, search=search, holdout=holdout), benchmark="image-folder")
        for holdout in ("ant", "cow")
        for search in (False, True)
        for method in ("classification", "rotation")
    ]
    for run in runs:
        cell = CellRun(run, prepared)
        part = (open_search if run.search else open_final)(prepared, run).training
        assert equal(cell.training.normalisation, measure(part))
        assert all(entry["split"] == "train" or not run.search for entry in cell.close_access_log())
    files = list(prepared.folder.glob("levels-*"))
    assert len(files) == 4, "of two holdouts, each with a search"
    pixels = {sum(json.loads(file.read_text())["counts"][0]) // 64 for file in files}
    assert pixels == {20, 16}, "all images of the two kept classes, and 80% of them"
    assert not list(prepared.folder.glob(".*"))


def test_prepared_data_is_opened_with_statistics_beside_it(digits: Prepared, quick_run: Callable) -> None:
    from trainables.data.prepared import open_folder

    CellRun(quick_run(), digits)
    assert list(digits.folder.glob("levels-*"))
    assert open_folder(digits.folder) == digits

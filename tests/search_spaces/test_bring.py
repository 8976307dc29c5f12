"""A benchmark from outside the package, whose reader is a function in a file of its own."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from orchestrator.planning.data import check_named
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from search_spaces import DEFAULT, Benchmark, all_benchmarks, bring, find_benchmark
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared
from trainables.data.readers import reader
from trainables.data.readers.finding import find_reader
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake

PLUGIN = '''
"""Squares of three shades, each class brighter than the one before."""

import numpy as np

from search_spaces import Benchmark, LogUniform
from trainables.data.readers.source import Source, Split
from trainables.recipe import Recipe

SHADES = {"dark": 10, "grey": 100, "light": 200}


def read(request):
    images = [np.full((8, 8), shade + n, np.uint8) for shade in SHADES.values() for n in range(4)]
    labels = np.repeat(np.arange(3), 4)
    split = Split(labels, images.__getitem__, lambda i: f"square {i}")
    return Source(tuple(SHADES), {"train": split, "test": split})


def benchmarks():
    squares = Benchmark(
        name="squares",
        reader=read,
        recipe=Recipe(depth=10, width=1, image_size=8, epochs=1, batch_size=4, ap_window=1),
        methods=("classification", "rotation"),
        spaces={"rotation": LogUniform(0.1, 1.0)},
        lambda_trials=2,
        classes=tuple(SHADES),
        train_counts=(4, 4, 4),
        test_counts=(4, 4, 4),
        channels=1,
    )
    return {squares.name: squares}
'''


@pytest.fixture(autouse=True)
def nothing_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test brings ends with it."""
    monkeypatch.setattr(search_spaces, "_brought", {})
    monkeypatch.setattr(reader, "_brought", {})


def load(folder: Path, text: str = PLUGIN) -> dict[str, Benchmark]:
    """Returns the benchmarks of a file with this text."""
    file = folder / "squares.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location("squares", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.benchmarks()


def request_in(folder: Path, data: Path | None = None) -> DataRequest:
    wanted = draft(Request("squares")).complete("cpu", ("dark", "grey", "light"))
    path = str(data or folder / "no_data")
    return data_request(wanted, path, cache=str(folder / "cache"), download=False)


def shades_of(prepared: Prepared) -> list[int]:
    """Returns the value of each training image in its original order."""
    table = prepared.open("train")
    images = table.gather(table.indices.argsort()).numpy()
    assert images.shape == (12, 8, 8, 1)
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_its_images_are_prepared_and_opened_as_the_function_gives_them(tmp_path: Path) -> None:
    bring(load(tmp_path))
    prepared = prepare(request_in(tmp_path))
    assert prepared.classes == ("dark", "grey", "light")
    assert prepared.counts == {"train": (4, 4, 4), "test": (4, 4, 4)}
    assert shades_of(prepared) == [10, 11, 12, 13, 100, 101, 102, 103, 200, 201, 202, 203]


def test_it_is_listed_last_and_its_request_goes_to_other_processes(tmp_path: Path) -> None:
    before = list(all_benchmarks())
    bring(load(tmp_path))
    assert list(all_benchmarks()) == [*before, "squares"]
    request = request_in(tmp_path)
    assert request.reader == "squares"
    assert pickle.loads(pickle.dumps(request)) == request


def test_its_function_reads_even_where_parquet_files_lie(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"not for this benchmark")
    bring(load(tmp_path))
    request = request_in(tmp_path, data=tmp_path)
    check_named(request)
    found = find_reader(request)
    assert found.read(request).class_names == ("dark", "grey", "light")
    assert found.sources(request) == [str(tmp_path)]
    assert found.sources(request_in(tmp_path)) == []


def test_prepared_data_is_opened_again_but_not_after_a_change_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(load(tmp_path))
    first = prepare(request_in(tmp_path))
    folder = first.folder
    written = (folder / "manifest.json").stat().st_mtime_ns
    again = prepare(request_in(tmp_path))
    assert (again.folder, (folder / "manifest.json").stat().st_mtime_ns) == (folder, written)

    monkeypatch.setattr(search_spaces, "_brought", {})
    monkeypatch.setattr(reader, "_brought", {})
    bring(load(tmp_path, PLUGIN.replace('"light": 200', '"light": 220')))
    changed = prepare(request_in(tmp_path))
    assert changed.fingerprint != first.fingerprint
    np.testing.assert_array_equal(shades_of(changed)[8:], [220, 221, 222, 223])


def test_a_process_without_the_file_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(load(tmp_path))
    request = request_in(tmp_path)
    monkeypatch.setattr(reader, "_brought", {})
    with pytest.raises(Mistake, match="no reader 'squares'.*give the plug-in"):
        prepare(request)


@pytest.mark.parametrize(
    ("name", "listed", "sentence"),
    [
        (DEFAULT, DEFAULT, "exists already"),
        ("Squares", "Squares", "cannot be a benchmark's name"),
        ("3-squares", "3-squares", "cannot be a benchmark's name"),
        ("squares_2", "squares_2", "cannot be a benchmark's name"),
        ("squares\n", "squares\n", "cannot be a benchmark's name"),
        ("squares", "squares-2", "'squares' is listed as 'squares-2'"),
        ("parquet", "parquet", "The reader 'parquet' exists already"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, listed: str, sentence: str) -> None:
    text = PLUGIN.replace('name="squares"', f"name={name!r}").replace("{squares.name: ", f"{{{listed!r}: ")
    before = list(all_benchmarks())
    with pytest.raises(Mistake, match=sentence):
        bring(load(tmp_path, text))
    assert list(all_benchmarks()) == before


def test_a_name_is_brought_once(tmp_path: Path) -> None:
    bring(load(tmp_path))
    with pytest.raises(Mistake, match="'squares' exists already"):
        bring(load(tmp_path))
    assert find_benchmark("squares").lambda_trials == 2


def test_a_benchmark_from_outside_can_name_a_reader_of_the_package(tmp_path: Path) -> None:
    bring(load(tmp_path, PLUGIN.replace("reader=read", 'reader="image_folder"')))
    assert find_reader(request_in(tmp_path)).identity == "image_folder"

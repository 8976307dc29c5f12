"""What holds for every benchmark, whichever file it is in."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

import search_spaces
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from search_spaces import DEFAULT, Benchmark, Grid, LogUniform, all_benchmarks
from trainables.data.readers.finding import find_reader
from trainables.recipe import Recipe
from trainables.run import parse_method

FOLDER = Path(search_spaces.__file__).parent
BY_FILE = {
    path.stem: importlib.import_module(f"search_spaces.{path.stem}").benchmarks()
    for path in sorted(FOLDER.glob("*.py"))
    if path.stem not in ("__init__", "benchmark")
}
BENCHMARKS = [benchmark for found in BY_FILE.values() for benchmark in found.values()]

every_benchmark = pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)


def test_the_files_are_the_list_and_the_default_comes_first() -> None:
    names = list(all_benchmarks())
    assert names[0] == DEFAULT
    assert names[1:] == [benchmark.name for benchmark in BENCHMARKS if benchmark.name != DEFAULT]
    assert len(set(names)) == len(names) > 1


@pytest.mark.parametrize("file", BY_FILE)
def test_a_benchmark_is_named_after_its_file(file: str) -> None:
    family = file.replace("_", "-")
    assert BY_FILE[file]
    for name, benchmark in BY_FILE[file].items():
        assert re.fullmatch("[a-z][a-z0-9-]*", name)
        assert name == benchmark.name
        assert name == family or name.startswith(f"{family}-")


@every_benchmark
def test_every_method_can_be_planned_with_a_space_for_each_of_its_tasks(benchmark: Benchmark) -> None:
    tasks = {task for method in benchmark.methods for task in parse_method(method).auxiliary}
    assert set(benchmark.spaces) <= tasks
    planned = draft(Request(benchmark.name, methods=benchmark.methods)).complete("cpu", benchmark.classes)
    assert set(planned.spaces) == tasks
    for space in planned.spaces.values():
        assert isinstance(space, LogUniform | Grid)
    for method in benchmark.methods:
        alone = draft(Request(benchmark.name, methods=(method,))).complete("cpu", benchmark.classes)
        assert set(alone.spaces) == set(parse_method(method).auxiliary)
    assert benchmark.lambda_trials >= 1


@every_benchmark
def test_the_counts_agree_with_each_other(benchmark: Benchmark) -> None:
    counts = [c for c in (benchmark.train_counts, benchmark.test_counts) if c is not None]
    if benchmark.classes is None:
        assert not counts
        assert benchmark.train_total is None
        return
    assert len(set(benchmark.classes)) == len(benchmark.classes) >= 3
    for count in counts:
        assert len(count) == len(benchmark.classes)
        assert min(count) >= 1
    if benchmark.train_counts and benchmark.train_total is not None:
        assert sum(benchmark.train_counts) == benchmark.train_total


@every_benchmark
def test_its_changes_to_the_recipe_are_fields_of_it(benchmark: Benchmark) -> None:
    fields = {field.name for field in dataclasses.fields(Recipe)}
    for task, network in benchmark.networks.items():
        assert task in benchmark.methods
        assert network.keys() <= fields
    assert set(benchmark.reference) <= fields
    assert benchmark.channels in (1, 3)


@every_benchmark
def test_its_reader_is_found(benchmark: Benchmark, tmp_path: Path) -> None:
    wanted = draft(Request(benchmark.name)).complete("cpu", benchmark.classes)
    reader = find_reader(data_request(wanted, str(tmp_path), cache="", download=False))
    assert reader.identity == benchmark.reader
    assert callable(reader.read)
    assert callable(reader.sources)

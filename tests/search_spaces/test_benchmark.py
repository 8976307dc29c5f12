"""What a benchmark makes of methods: their order, their network, their spaces, and which it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces import all_benchmarks, find_benchmark
from search_spaces.benchmark import DEFAULT_METHODS, Benchmark
from trainables.auxiliary import TASKS
from trainables.mistake import Mistake
from trainables.spaces import Grid, LogUniform, parse_space

FOLDER = find_benchmark("image-folder")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("cpc+rotation", "rotation+cpc"),
        ("center-mask+cpc+rotation", "rotation+cpc+center-mask"),
        ("center-mask+rotation", "rotation+center-mask"),
        ("classification", "classification"),
    ],
)
def test_the_order_of_parts_is_the_benchmark_s(name: str, canonical: str) -> None:
    assert FOLDER.canonical(name) == canonical
    assert FOLDER.canonical(canonical) == canonical


def test_tasks_are_each_named_once() -> None:
    assert FOLDER.tasks(("cpc+rotation", "rotation", "classification")) == ("rotation", "cpc")


@pytest.mark.parametrize("benchmark", all_benchmarks().values(), ids=lambda benchmark: benchmark.name)
def test_every_benchmark_runs_the_default_methods_and_searches_what_it_names(benchmark: Benchmark) -> None:
    for method in (*DEFAULT_METHODS, *benchmark.methods):
        benchmark.check_method(method)
    for task in benchmark.tasks(benchmark.methods):
        assert parse_space(str(benchmark.space(task))) == benchmark.space(task)
    for task in set(TASKS.built_in) - set(benchmark.methods):
        with pytest.raises(Mistake, match=f"{benchmark.name} cannot run the method '{task}'; it runs"):
            benchmark.check_method(task)


def test_a_benchmark_s_space_goes_before_the_task_s() -> None:
    silent = replace(FOLDER, spaces={})
    assert (str(silent.space("rotation")), str(silent.space("cpc"))) == ("0.05..5", "0.1,1,10,20,50")
    own = replace(FOLDER, spaces={"rotation": Grid((0.5, 1.0))})
    assert (own.space("rotation"), own.space("cpc")) == (Grid((0.5, 1.0)), silent.space("cpc"))
    assert isinstance(silent.space("rotation"), LogUniform)


def test_a_task_s_network_is_every_method_s_of_the_sweep() -> None:
    assert FOLDER.recipe_for(("classification", "rotation")) == FOLDER.recipe
    with_patches = FOLDER.recipe_for(("classification", "rotation+cpc"))
    assert (with_patches.image_size, with_patches.stem_stride, with_patches.groups) == (224, 2, 4)
    assert with_patches.width == FOLDER.recipe.width


def test_the_authors_switches_for_a_task_s_sweeps() -> None:
    dogs = find_benchmark("imagenet-dog")
    assert dogs.reference_for(("classification", "rotation")) == {"epoch_length": "kept"}
    assert dogs.reference_for(("classification", "cpc")) == {"epoch_length": "kept", "odin_units": "unit"}

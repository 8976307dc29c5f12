"""What is compared and searched: one readable file a benchmark.

A file's name, with "-" for "_", is the benchmark's, or its family's where the file defines several;
each has a function `benchmarks()` that returns them by name.
"""

from __future__ import annotations

import importlib

from search_spaces.benchmark import Benchmark
from trainables.mistake import unknown

FILES = ("digits", "cifar10", "stl10", "imagenet", "image_folder")


def all_benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by name."""
    found: dict[str, Benchmark] = {}
    for name in FILES:
        found.update(importlib.import_module(f"search_spaces.{name}").benchmarks())
    return found


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name; Mistake lists the valid ones."""
    known = all_benchmarks()
    if name not in known:
        raise unknown("benchmark", name, known)
    return known[name]

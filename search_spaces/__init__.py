"""Benchmarks and their search spaces, one readable file per benchmark.

A file is named after its benchmark, or after the family if it defines several, with "_" for "-". Its function
`benchmarks()` returns them by name.
"""

from __future__ import annotations

import importlib

from search_spaces.benchmark import Benchmark
from trainables.mistake import unknown

FILES = ("digits", "cifar10", "stl10", "imagenet", "image_folder")


def all_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by name."""
    found: dict[str, Benchmark] = {}
    for name in FILES:
        found.update(importlib.import_module(f"search_spaces.{name}").benchmarks())
    return found


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark with a name; raise Mistake, which lists the valid names, if there is none."""
    known = all_benchmarks()
    if name not in known:
        raise unknown("benchmark", name, known)
    return known[name]

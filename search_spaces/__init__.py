"""Benchmarks and their search spaces, one readable file per benchmark.

A file is named after its benchmark, or after the family if it defines several, with "_" for "-". Its function
`benchmarks()` returns them by name; no list is edited when a file is added. Plug-ins `bring` theirs.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping

from search_spaces.benchmark import Benchmark
from trainables.data.readers.reader import bring_reader
from trainables.mistake import Mistake, unknown
from trainables.spaces import Grid, LogUniform

__all__ = ["DEFAULT", "Benchmark", "Grid", "LogUniform", "all_benchmarks", "bring", "find_benchmark"]

DEFAULT = "digits"
"""The benchmark of a command that names none; it needs no data."""

_brought: dict[str, Benchmark] = {}


def all_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by name: the default, the others in their files' order, then the plug-ins'."""
    found: dict[str, Benchmark] = {}
    for file in sorted(entry.name for entry in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{file}")
        if hasattr(module, "benchmarks"):
            found.update(_checked(module.benchmarks(), taken=found))
    return {DEFAULT: found[DEFAULT], **found, **_brought}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark with a name; raise Mistake, which lists the valid names, if there is none."""
    known = all_benchmarks()
    if name not in known:
        raise unknown("benchmark", name, known)
    return known[name]


def bring(found: Mapping[str, Benchmark]) -> None:
    """Add a plug-in's benchmarks by name, and their readers where these are functions.

    Raise Mistake, and add nothing, for a name that is taken or cannot be one.
    """
    checked = _checked(found, taken=all_benchmarks())
    for name, benchmark in checked.items():
        if not isinstance(benchmark.reader, str):
            bring_reader(name, benchmark.reader)
    _brought.update(checked)


def _checked(found: Mapping[str, Benchmark], taken: Mapping[str, Benchmark]) -> Mapping[str, Benchmark]:
    """Return the benchmarks; raise Mistake if one's name is taken, or is no name of a benchmark."""
    for name, benchmark in found.items():
        if not re.fullmatch("[a-z][a-z0-9-]*", name):
            raise Mistake(
                f"{name!r} cannot be a benchmark's name: begin with a small letter, and go on with small "
                "letters, numerals and dashes."
            )
        if name != benchmark.name:
            raise Mistake(f"The benchmark {benchmark.name!r} is listed as {name!r}: list it by its name.")
        if name in taken:
            raise Mistake(f"The benchmark {name!r} exists already: choose another name for it.")
    return found

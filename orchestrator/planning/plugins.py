"""Plug-ins: files with a person's own detectors, auxiliary tasks and benchmarks.

A plug-in is its source: it is kept in the ledger and travels to every process of a sweep, which executes it
once. Its classes are then found by name like those of this project.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import search_spaces
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.specification import read_stored
from search_spaces.benchmark import Benchmark
from trainables.auxiliary import TASKS, AuxiliaryTask
from trainables.detectors import DETECTORS, Detector
from trainables.detectors.contract import FEATURES, LOGITS, NETWORK
from trainables.mistake import Mistake, one_line
from trainables.registry import PLUGIN, place_in_plugin, subclasses
from trainables.run import CLASSIFICATION, MODIFIERS
from trainables.spaces import Grid, LogUniform
from trainables.training_free import TRAINING_FREE

RESERVED = ("index", "label", "is-anomaly", "logits", "file", CLASSIFICATION, *MODIFIERS)
"""Names that columns and methods have already."""
GIVEN = {LOGITS: ("logits",), FEATURES: ("features", "logits"), NETWORK: ("network", "inputs", "logits")}
"""What a detector's `score` is given, by what it needs."""


@dataclass(frozen=True)
class Plugin:
    """A file's name, for messages, and its source."""

    file: str
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclass(frozen=True)
class Brought:
    """The names of what a plug-in defines."""

    detectors: tuple[str, ...]
    tasks: tuple[str, ...]
    benchmarks: tuple[str, ...]


def read_plugin(path: str) -> Plugin:
    """Return the plug-in in a file; raise Mistake if there is no such file or it is no text."""
    try:
        return Plugin(Path(path).name, Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Mistake(
            f"--plugin {path} does not exist: name a Python file that defines detectors, auxiliary tasks or "
            "benchmarks."
        ) from None
    except (OSError, ValueError) as error:
        raise Mistake(f"--plugin {path} cannot be read ({one_line(error)}): name a Python file.") from None


def load(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Execute plug-ins that this process has not executed yet; return the digest by each task and benchmark.

    Raise Mistake, which names the line, for a plug-in that cannot be executed, defines nothing, breaks a
    contract or takes a name.
    """
    digests = {}
    for plugin in plugins:
        brought = _load(plugin)
        digests.update(dict.fromkeys((*brought.tasks, *brought.benchmarks), plugin.digest))
    return digests


def load_with_stored(asked: tuple[Plugin, ...], ledger: Ledger) -> tuple[Plugin, ...]:
    """Execute a stored sweep's plug-ins beside those that are asked for; return all of them.

    One that is asked for takes the place of the stored one of the same file name or the same source.
    """
    files, digests = {plugin.file for plugin in asked}, {plugin.digest for plugin in asked}
    stored = tuple(p for p in _stored(ledger) if p.file not in files and p.digest not in digests)
    if stored:
        listed = ", ".join(f"{plugin.file} ({plugin.digest[:8]})" for plugin in stored)
        print(f"The sweep's plug-ins are code that runs here, as its ledger holds it: {listed}.")
    load((*asked, *stored))
    return (*stored, *asked)


def keep(plugins: tuple[Plugin, ...], ledger: Ledger) -> None:
    """Keep plug-ins in the ledger of a sweep that exists, beside those that are there."""
    if plugins:
        for plugin in plugins:
            ledger.write_plugin(plugin.digest, plugin.source)
        before = read_stored(ledger).plugins
        ledger.write_sweep({**ledger.read_sweep(), "plugins": listed(plugins, before)})


def listed(plugins: tuple[Plugin, ...], before: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of plug-ins by file name, with those that a ledger lists but for renamed ones."""
    own = {plugin.file: plugin.digest for plugin in plugins}
    return {**{file: digest for file, digest in before.items() if digest not in own.values()}, **own}


def _stored(ledger: Ledger) -> Iterator[Plugin]:
    """Yield the plug-ins that a ledger holds; raise Mistake if one is not what sweep.json says it is."""
    for file, digest in read_stored(ledger).plugins.items():
        plugin = Plugin(file, ledger.read_plugin(digest))
        if plugin.digest != digest:
            raise Mistake(
                f"The plug-in {file} in the ledger of {ledger.name!r} was altered: restore it from a copy, "
                "or give the file with --plugin."
            )
        yield plugin


@functools.cache
def _load(plugin: Plugin) -> Brought:
    check = _Check(plugin)
    names = vars(_executed(plugin))
    of = functools.partial(subclasses, names, names["__name__"])
    tasks: list[type[AuxiliaryTask]] = of(AuxiliaryTask)  # type: ignore[type-abstract]
    detectors: list[type[Detector]] = of(Detector)  # type: ignore[type-abstract]
    benchmarks = _benchmarks(plugin, names)
    if not (tasks or detectors or benchmarks):
        raise Mistake(
            f"--plugin {plugin.file} defines nothing: derive a class from trainables.detectors.Detector or "
            "trainables.auxiliary.AuxiliaryTask, or write a function benchmarks()."
        )
    for task in tasks:
        check.task(task)
    for head in _heads(names):
        check.complete(head)
    for detector in detectors:
        check.detector(detector)
    search_spaces.bring(benchmarks)
    for task in tasks:
        TASKS.bring(task, task.name)
    for detector in detectors:
        DETECTORS.bring(detector, detector.name)
    return Brought(tuple(d.name for d in detectors), tuple(t.name for t in tasks), tuple(benchmarks))


def _heads(names: Mapping[str, Any]) -> list[type]:
    """Return the file's task modules; where it has not imported torch, for which plans do not wait, none."""
    if "torch" not in sys.modules:
        return []
    from trainables.auxiliary import TaskModule

    return subclasses(dict(names), names["__name__"], TaskModule)  # type: ignore[type-abstract]


def _executed(plugin: Plugin) -> ModuleType:
    """Execute the source as a module; raise Mistake if it raises an error."""
    module = ModuleType(f"plugin_{plugin.digest[:16]}")
    setattr(module, PLUGIN, plugin.digest)
    lines = plugin.source.splitlines(keepends=True)
    linecache.cache[plugin.file] = (len(plugin.source), None, lines, plugin.file)  # for tracebacks
    sys.modules[module.__name__] = module  # data classes look their own module up
    try:
        exec(compile(plugin.source, plugin.file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _failed(plugin, error, "cannot be imported") from error
    return module


def _benchmarks(plugin: Plugin, names: Mapping[str, Any]) -> Mapping[str, Benchmark]:
    """Return the file's benchmarks by name, none if it has no function for them."""
    if "benchmarks" not in names:
        return {}
    try:
        found = names["benchmarks"]()
    except Exception as error:
        raise _failed(plugin, error, "cannot give its benchmarks") from error
    if not isinstance(found, Mapping) or not all(isinstance(each, Benchmark) for each in found.values()):
        raise Mistake(
            f"--plugin {plugin.file}: its function benchmarks() must return a dictionary of "
            "search_spaces.Benchmark by name; correct it."
        )
    return found


def _failed(plugin: Plugin, error: BaseException, what: str) -> Mistake:
    """Return the Mistake for an error in the file, with the innermost of its lines."""
    place = place_in_plugin(error)
    line = "" if place is None else f", line {place[1]},"
    said = f"{type(error).__name__}: {one_line(error)}"
    return Mistake(f"--plugin {plugin.file}{line} {what} ({said}): correct it.")


class _Check:
    """Checks a plug-in's classes against their contracts; what is wrong is told with its line."""

    def __init__(self, plugin: Plugin) -> None:
        """Find the classes' lines; raise Mistake if the file is not Python."""
        self._file = plugin.file
        try:
            tree = ast.parse(plugin.source, plugin.file)
        except SyntaxError as error:
            line = f", line {error.lineno}," if error.lineno else ""
            raise Mistake(f"--plugin {plugin.file}{line} is not Python ({error.msg}): correct it.") from None
        except ValueError as error:  # a null byte, before Python 3.12
            raise Mistake(
                f"--plugin {plugin.file} is not Python ({one_line(error)}): name a Python file."
            ) from None
        self._lines = {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self._names: set[str] = set()
        self._labels: list[str] = []

    def task(self, task: type[AuxiliaryTask]) -> None:
        """Check an auxiliary task."""
        self._name(task, "auxiliary task")
        self.complete(task)
        self._takes(task, "build", ("network", "recipe"))
        if not isinstance(getattr(task, "space", None), LogUniform | Grid):
            self._refuse(task, "needs a class attribute space, a LogUniform or a Grid")
        self._can_be_made(task)

    def complete(self, found: type) -> None:
        """Check that a class has every method of its contract."""
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        if missing:
            self._refuse(found, f"has no method {' and no method '.join(missing)}")

    def detector(self, detector: type[Detector]) -> None:
        """Check a detector."""
        self._name(detector, "detector")
        needs = getattr(detector, "needs", None)
        if needs not in tuple(GIVEN):
            self._refuse(detector, f"needs {needs!r}; what it can need is {', '.join(GIVEN)}")
        if detector.gradients and needs != NETWORK:
            self._refuse(detector, f"has gradients, which only a detector that needs {NETWORK!r} is given")
        labels = [*(DETECTORS.find(name).label for name in DETECTORS.names), *self._labels]
        if detector.label in labels:
            self._refuse(detector, f"has the label {detector.label!r}, which is taken")
        self._labels.append(detector.label)
        self.complete(detector)
        self._takes(detector, "score", GIVEN[str(needs)])
        if needs == FEATURES:
            self._takes(detector, "fit", ("features", "logits", "labels"))
        self._can_be_made(detector)

    def _can_be_made(self, found: type) -> None:
        if not _can_be_called(found):
            self._refuse(found, "cannot be made without arguments, as it is for every cell")

    def _takes(self, found: type, method: str, arguments: tuple[str, ...]) -> None:
        if not _can_be_called(getattr(found, method), "self", *arguments):
            self._refuse(found, f"needs a method {method}(self, {', '.join(arguments)})")

    def _name(self, found: type, kind: str) -> None:
        name = getattr(found, "name", None)
        if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9-]*", name) or name in RESERVED:
            self._refuse(
                found,
                f"needs a class attribute name, the {kind}'s, of small letters, numerals and dashes, and not "
                f"one of {', '.join(RESERVED)}",
            )
        name = str(name)
        if name in (*TASKS.names, *DETECTORS.names, *TRAINING_FREE.names, *self._names):
            self._refuse(found, f"has the name {name!r}, which is taken")
        self._names.add(name)

    def _refuse(self, found: type, what: str) -> NoReturn:
        line = self._lines.get(found.__name__, 1)
        raise Mistake(f"--plugin {self._file}, line {line}: the class {found.__name__} {what}: correct it.")


def _can_be_called(function: Callable[..., object], *arguments: object) -> bool:
    """Return whether a function takes so many arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True

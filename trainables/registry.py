"""What is found by its public name: one class per file of a folder, and what plug-ins bring.

No list is edited when a file is added: the file max_logit.py of a folder holds what is called max-logit.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from typing import Generic, TypeVar

from trainables.mistake import Mistake, unknown

T = TypeVar("T")

CONTRACT = "contract"
"""The module of a folder that defines its contract."""
PLUGIN = "__plugin__"
"""The global of a plug-in's module that holds the digest of its source."""


class Registry(Generic[T]):
    """The subclasses of one contract by name, such as every detector.

    A file is imported when its class is asked for, so the names cost nothing.
    """

    def __init__(self, kind: str, contract: type[T]) -> None:
        """Look in the folder of the module that defines the contract; `kind` names what is there."""
        self._kind, self._contract = kind, contract
        self._package, _, self._beside = contract.__module__.rpartition(".")
        self._brought: dict[str, type[T]] = {}

    @functools.cached_property
    def built_in(self) -> tuple[str, ...]:
        """Names of the folder's files, in alphabetical order."""
        folder = importlib.import_module(self._package).__path__
        modules = (found.name for found in pkgutil.iter_modules(folder) if not found.ispkg)
        return tuple(sorted(name.replace("_", "-") for name in modules if name != self._beside))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, those of plug-ins last."""
        return (*self.built_in, *self._brought)

    def find(self, name: str) -> type[T]:
        """Return the class with a name; raise Mistake, which lists the valid names, if there is none."""
        if name in self._brought:
            return self._brought[name]
        if name not in self.built_in:
            raise unknown(self._kind, name, self.names)
        module = importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
        for found in subclasses(module.__dict__, module.__name__, self._contract):
            return found
        raise Mistake(
            f"{module.__file__} defines no {self._kind}: derive a class from {self._contract.__name__}, or "
            "move the file to another folder."
        )

    def bring(self, found: type[T], name: str) -> None:
        """Add a plug-in's class; raise Mistake if the name is taken by another."""
        if name in self.built_in or name in self._brought:
            raise Mistake(f"The {self._kind} {name!r} exists already: choose another name for it.")
        self._brought[name] = found


def source_digest(found: type) -> str:
    """Return the SHA-256 of the file that defines a class, which a plug-in's module states itself.

    It covers the files of the same folder that this file imports from, such as another detector's.
    """
    stated = getattr(sys.modules.get(found.__module__), PLUGIN, None)
    if stated:
        return str(stated)
    package, _, own = found.__module__.rpartition(".")
    source = Path(inspect.getfile(found))
    imported = re.findall(rf"^from {re.escape(package)}\.(\w+) import", source.read_text(), re.MULTILINE)
    others = {name for name in imported if name != CONTRACT}
    digest = hashlib.sha256()
    for name in (own, *sorted(others)):
        digest.update(source.with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def subclasses(names: dict[str, object], module: str, contract: type[T]) -> list[type[T]]:
    """Return the classes in a module's dictionary that are defined there and derive from a contract."""
    found = [
        found
        for found in names.values()
        if inspect.isclass(found) and issubclass(found, contract) and found.__module__ == module
        and found is not contract
    ]  # fmt: skip
    return list(dict.fromkeys(found))  # a class may have two names there


def place_in_plugin(error: BaseException) -> tuple[str, int] | None:
    """Return the file and the innermost line of a plug-in in an error's traceback, None if none is in it."""
    traceback, found = error.__traceback__, None
    while traceback is not None:
        if PLUGIN in traceback.tb_frame.f_globals:
            found = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return found

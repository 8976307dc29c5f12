"""The interface between a sweep and what runs its cells: inline in this process, or on Ray."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.planning.specification import Specification
from orchestrator.planning.sweep import Sweep


class Executor(ABC):
    """Runs the cells that a dispatcher hands out until none is left."""

    tracking_is_optional: bool
    """Whether a sweep may run where MLflow is not installed."""

    @abstractmethod
    def device_kind(self) -> str:
        """Return the kind of device that cells get, "cuda" or "cpu"; raise Mistake if it is not to be had."""

    @abstractmethod
    def check(self, specification: Specification) -> None:
        """Raise Mistake if a sweep's cells cannot run as they are specified."""

    @contextlib.contextmanager
    def ready(self, sweep: Sweep) -> Iterator[None]:
        """Have ready what cells run on; raise Mistake for what can only be seen then."""
        yield

    @abstractmethod
    def run(self, dispatcher: Dispatcher, sweep: Sweep) -> None:
        """Run cells until the dispatcher has none left; called once ready.

        What cells run on may be gone afterwards.
        """

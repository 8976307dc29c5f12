"""How many cells a cluster holds once it has grown to its maximum, and whether it holds one at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.execution.memory import GPU
from orchestrator.ledger.attempts import Usage
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from trainables.mistake import Mistake

TRIAL_CPU = 0.01
"""CPUs of the process that looks after a group of workers: Tune refuses 0."""


@dataclass(frozen=True)
class Resources:
    """What a worker takes, how many workers a cell has, and how many cells run at once (0: all that fit)."""

    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    workers: int = 1
    max_concurrent: int = 0

    @staticmethod
    def of(request: Request, specification: Specification) -> Resources:
        """Return what a request reserves for the cells of a specification."""
        gpus = request.gpus_per_worker
        return Resources(
            cpus_per_worker=max(
                request.cpus_per_worker, specification.threads if specification.threads > 1 else 0
            ),
            gpus_per_worker=float(specification.device == "cuda") if gpus is None else gpus,
            workers=specification.workers,
            max_concurrent=request.max_concurrent,
        )

    @property
    def trial(self) -> dict[str, float]:
        """What Tune reserves for a trial: its worker's share or, of several workers, next to nothing."""
        if self.workers > 1:
            return {"cpu": TRIAL_CPU}
        return {"cpu": max(self.cpus_per_worker, TRIAL_CPU), "gpu": self.gpus_per_worker}

    @property
    def threads(self) -> int:
        """How many threads Ray lets the libraries in a worker use, unless it is told otherwise."""
        return max(1, int(self.worker["CPU"]))

    @property
    def worker(self) -> dict[str, float]:
        """What Ray Train reserves for each of several workers, less the trial's own share."""
        share = {"CPU": max(self.cpus_per_worker - TRIAL_CPU, TRIAL_CPU)}
        return {**share, "GPU": self.gpus_per_worker} if self.gpus_per_worker else share

    def alone(self, short_of: str, nodes: Sequence[dict[str, float]]) -> Resources:
        """Return what a cell takes that shares its GPUs, or its node, with no other.

        `short_of` is GPU or HOST, whose memory ran out.
        """
        if short_of == GPU:
            shares = [1 / parts for parts in range(1, self.workers + 1)] if self.gpus_per_worker < 1 else []
            wider = [replace(self, gpus_per_worker=share) for share in shares]
        else:
            counts, least = range(1, self.workers + 1), self.cpus_per_worker
            shares = [node.get("CPU", 0) / count for node in nodes for count in counts]
            wider = [replace(self, cpus_per_worker=share) for share in shares if share >= least]
        fitting = [each for each in wider if sum(_workers_on(each, node) for node in nodes) >= self.workers]
        return max(fitting, key=lambda each: (each.gpus_per_worker, each.cpus_per_worker), default=self)

    @property
    def usage(self) -> Usage:
        """What an attempt at a cell takes, all its workers together."""
        return Usage(self.workers * self.cpus_per_worker, self.workers * self.gpus_per_worker)


def cells_at_once(resources: Resources, nodes: Sequence[dict[str, float]]) -> int:
    """Return how many cells fit on nodes with these resources.

    Groups of workers start one by one, so no more cells run than can have all their workers: otherwise each
    could hold some and wait for the rest.
    """
    fit = sum(_workers_on(resources, node) for node in nodes) // resources.workers
    return min(fit, resources.max_concurrent) if resources.max_concurrent else fit


def expected_at_once(request: Request, specification: Specification) -> int:
    """Return how many cells will run at once, as far as that is known without looking at GPUs or a cluster.

    Of these it is the number that was asked for, or one.
    """
    if request.executor == "inline":
        return 1
    resources = Resources.of(request, specification)
    if resources.gpus_per_worker or request.address or os.environ.get("RAY_ADDRESS"):
        return request.max_concurrent or 1
    return max(1, cells_at_once(resources, [{"CPU": float(os.cpu_count() or 1)}]))


def check_fits(resources: Resources, nodes: Sequence[dict[str, float]]) -> None:
    """Raise Mistake if the nodes, at their most, do not hold one cell."""
    for kind, asked in (("CPU", resources.cpus_per_worker), ("GPU", resources.gpus_per_worker)):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if asked > most:
            raise Mistake(
                f"--{kind.lower()}s-per-worker {asked:g} is more than any node has: the largest has {most:g}."
            )
    places = sum(_workers_on(resources, node) for node in nodes)
    if places < resources.workers:
        raise Mistake(
            f"--workers {resources.workers} is more than there is room for: the nodes hold {places} workers "
            f"of {resources.cpus_per_worker:g} CPU and {resources.gpus_per_worker:g} GPU at most; ask for "
            "fewer or smaller ones (--cpus-per-worker, --gpus-per-worker)."
        )


def _workers_on(resources: Resources, node: dict[str, float]) -> int:
    """Return how many whole workers fit on a node."""
    fit = node.get("CPU", 0) / max(resources.cpus_per_worker, TRIAL_CPU)
    if resources.gpus_per_worker:
        gpus, share = node.get("GPU", 0), resources.gpus_per_worker
        # A fraction is a share of one GPU: 0.4 fits twice on each, not five times on two.
        whole = int(gpus) * int(1 / share + 1e-9) if share < 1 else int(gpus / share)
        fit = min(fit, whole)
    return int(fit + 1e-9)

"""The paper's whole programme on 1 to 1,024 GPUs, replayed by the real plan with given cell times.

    python benchmarks/scale.py                            # a minute; no GPU, no Ray, no data
    python benchmarks/scale.py --gpus 8 --tflops 60 --spot-hours 2

Each sweep is planned as `orchestrator.sweep --protocol paper` plans it, and its Plan hands the cells out and
takes their ends, as it does for Ray Tune. What runs between is a clock: a cell takes its FLOPs over a GPU's
rate, give or take a few per cent; each attempt first takes its start; a GPU is taken away now and then, and
comes back later; an attempt fails now and then. What an interrupted cell has trained up to its last
checkpoint stays. All draws come from one seed.

Columns: the hours until the last cell ended; the ideal, which is the work over the GPUs, or the longest chain
of cells that wait for each other if that is longer; the share of GPU time that was work which stayed; how
many attempts were lost; messages a second to the driver (starts, ends, and a report for each checkpoint); and
what the Plan took of this processor for each event.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import json
import platform
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.planning.cells import Cell, Cells, lay_out
from orchestrator.planning.costs import Images, flops_by_key
from orchestrator.planning.plan import Assignment, Plan
from orchestrator.planning.request import Request, draft
from orchestrator.planning.studies import Outcome, suggest
from search_spaces import find_benchmark

PROGRAMME = ("cifar10", "stl10", *(f"imagenet-{s}" for s in ("dog", "car", "snake", "spider", "fungus")))
TOLERANCE = 0.05
"""Standard deviation of a cell's time, as a share of it."""
HOUR = 3600.0


@dataclass(frozen=True)
class Place:
    """Where the programme runs."""

    gpus: int
    rate: float
    """FLOPs a second of a GPU while it trains."""
    start: float
    """Seconds from the hand-out of a cell to its first step."""
    checkpoint: float
    """Seconds between checkpoints."""
    spot: float
    """Mean seconds until a GPU is taken away; 0 for never."""
    away: float
    """Seconds until another one has taken its place."""
    failing: float
    """Share of attempts that fail by themselves."""


@dataclass
class Sweep:
    """One sweep's plan, with what its cells take in seconds of a GPU."""

    cells: Cells
    seconds: dict[str, float]
    plan: Plan
    left: dict[str, float]


@dataclass
class Account:
    """What was counted while the programme ran."""

    makespan: float = 0.0
    worked: float = 0.0
    """GPU seconds of work that stayed."""
    lost: int = 0
    events: int = 0
    messages: int = 0
    planning: float = 0.0
    """CPU seconds of the plans."""
    failed: int = 0
    cells: int = 0


def sweeps(place: Place, seeds: int, rng: random.Random, benchmarks: Sequence[str]) -> list[Sweep]:
    """Plan the programme's sweeps."""
    found = []
    for name in benchmarks:
        benchmark = find_benchmark(name)
        images = Images.of_benchmark(benchmark)
        assert images is not None, f"{name} does not say how many images it has"
        request = Request(benchmark=name, seeds=seeds, protocol="paper")
        wanted = draft(request).complete("cuda", images.classes)
        cells = lay_out(wanted, "0" * 16)
        work = flops_by_key(cells.all(), wanted, images)
        seconds = {
            key: flops / place.rate * max(0.5, rng.gauss(1.0, TOLERANCE)) for key, flops in work.items()
        }
        found.append(Sweep(cells, seconds, Plan(cells, suggest, retries=wanted_retries()), dict(seconds)))
    return found


def wanted_retries() -> int:
    """Return how often a sweep tries a cell again, unless it is told otherwise."""
    return draft(Request()).settings.retries


class Replay:
    """A clock, the GPUs, and the plans of sweeps that run one after another or together."""

    def __init__(self, place: Place, running: list[Sweep], rng: random.Random) -> None:
        self._place, self._rng = place, rng
        self._queue = running
        self._clock = 0.0
        self._free = list(range(place.gpus))
        self._events: list[tuple[float, int, str, Sweep | None, Cell | None, int]] = []
        self._order = itertools.count()
        self._epochs: dict[str, int] = {}
        self.account = Account()

    def run(self) -> Account:
        """Let time pass until every plan is finished."""
        self._hand_out()
        while self._events:
            self._clock, _, what, sweep, cell, gpu = heapq.heappop(self._events)
            if sweep is not None and cell is not None:
                self._take(what, sweep, cell, gpu)
            if what == "taken away":
                self._put(self._place.away, "back", None, None, gpu)
            else:
                self._free.append(gpu)
            self._hand_out()
        self.account.makespan = self._clock
        for sweep in self._queue:
            counts = sweep.plan.counts()
            self.account.cells += sum(counts.values())
            self.account.failed += sum(counts.values()) - counts["done"]
        return self.account

    def _hand_out(self) -> None:
        for sweep in self._queue:
            while self._free and (assignment := self._asked(sweep)) is not None:
                self._begin(sweep, assignment, self._free.pop())

    def _asked(self, sweep: Sweep) -> Assignment | None:
        before = time.process_time()
        assignment = sweep.plan.next()
        self.account.planning += time.process_time() - before
        return assignment

    def _begin(self, sweep: Sweep, assignment: Assignment, gpu: int) -> None:
        """Decide how the attempt will end, which nobody knows before the clock is there."""
        place, cell = self._place, assignment.cell
        self.account.messages += 1
        needs = place.start + sweep.left[cell.key]
        ends = [(needs, "done")]
        if place.spot:
            ends.append((self._rng.expovariate(1 / place.spot), "taken away"))
        if self._rng.random() < place.failing:
            ends.append((self._rng.uniform(0, needs), "failed"))
        after, what = min(ends)
        worked = max(0.0, after - place.start)
        kept = worked if what == "done" else worked // place.checkpoint * place.checkpoint
        self.account.worked += kept
        self.account.messages += int(worked // place.checkpoint) + 1
        sweep.left[cell.key] -= kept
        self._put(after, what, sweep, cell, gpu)

    def _put(self, after: float, what: str, sweep: Sweep | None, cell: Cell | None, gpu: int) -> None:
        heapq.heappush(self._events, (self._clock + after, next(self._order), what, sweep, cell, gpu))

    def _take(self, what: str, sweep: Sweep, cell: Cell, gpu: int) -> None:
        self.account.events += 1
        before = time.process_time()
        if what == "done":
            value = 0.9 + 0.01 * self._rng.random()
            sweep.plan.done(cell.key, Outcome(sweep.plan._assignments[cell.key].what, value))
        else:
            self.account.lost += 1
            self._epochs[cell.key] = self._epochs.get(cell.key, 0) + 1
            sweep.plan.progressed(cell.key, self._epochs[cell.key])
            sweep.plan.failed(cell.key, what)
        self.account.planning += time.process_time() - before


def chain(place: Place, running: list[Sweep]) -> float:
    """Return the seconds that sweeps take with a GPU for every cell, no starting time and no losses."""
    fresh = [
        Sweep(each.cells, each.seconds, Plan(each.cells, suggest), dict(each.seconds)) for each in running
    ]
    cells = sum(len(each.seconds) for each in fresh)
    unlimited = dataclasses.replace(place, gpus=cells, start=0.0, spot=0.0, failing=0.0)
    return Replay(unlimited, fresh, random.Random(0)).run().makespan


def replay(place: Place, seeds: int, benchmarks: Sequence[str], *, together: bool) -> dict[str, float]:
    """Run the programme at a place and return what a row of the table says."""
    rng = random.Random(0)
    programme = sweeps(place, seeds, rng, benchmarks)
    runs = [programme] if together else [[sweep] for sweep in programme]
    chains = [chain(place, running) for running in runs]
    accounts = [Replay(place, running, rng).run() for running in runs]
    work = sum(sum(sweep.seconds.values()) for sweep in programme)
    shares = [sum(sum(s.seconds.values()) for s in running) / place.gpus for running in runs]
    hours = sum(each.makespan for each in accounts) / HOUR
    return {
        "gpus": place.gpus,
        "cells": sum(each.cells for each in accounts),
        "work_gpu_hours": work / HOUR,
        "hours": hours,
        "ideal_hours": sum(map(max, shares, chains)) / HOUR,
        "utilisation": work / HOUR / place.gpus / hours,
        "lost_attempts": sum(each.lost for each in accounts),
        "failed_cells": sum(each.failed for each in accounts),
        "messages_per_second": sum(each.messages for each in accounts) / hours / HOUR,
        "plan_ms_per_event": 1000
        * sum(each.planning for each in accounts)
        / max(1, sum(each.events for each in accounts)),
    }


def many_cells(count: int) -> dict[str, float]:
    """Plan so many cells, hand them all out, take their ends, and plan them once more with all done."""
    classes = tuple(f"c{number:04d}" for number in range(count // 10))
    request = Request(benchmark="image-folder", methods=("classification", "rotation"), seeds=3)
    wanted = dataclasses.replace(draft(request).complete("cpu", classes), lambda_trials=4)
    before = time.process_time()
    cells = lay_out(wanted, "0" * 16)
    plan = Plan(cells, suggest)
    planned = time.process_time() - before
    before, done = time.process_time(), {}
    while (assignment := plan.next()) is not None:
        done[assignment.cell.key] = Outcome(assignment.what, 0.9)
        plan.done(assignment.cell.key, done[assignment.cell.key])
    ran = time.process_time() - before
    before = time.process_time()
    assert Plan(cells, suggest, done).finished
    return {
        "cells": len(done),
        "plan_seconds": planned,
        "milliseconds_per_cell": 1000 * ran / len(done),
        "resume_seconds": time.process_time() - before,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print the tables, and write them as JSON if that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 1024])
    parser.add_argument(
        "--tflops", type=float, default=125.0, help="of one GPU while it trains (default: 125)"
    )
    parser.add_argument("--start", type=float, default=20.0, help="seconds to start a cell (default: 20)")
    parser.add_argument(
        "--spot-hours", type=float, default=8.0, help="mean time until a GPU is taken away; 0: never"
    )
    parser.add_argument(
        "--away", type=float, default=300.0, help="seconds until another comes (default: 300)"
    )
    parser.add_argument(
        "--failing", type=float, default=0.005, help="share of attempts that fail (default: 0.005)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--benchmarks", nargs="+", default=list(PROGRAMME))
    parser.add_argument("--cells", type=int, default=100_000, help="of the plan alone; 0: leave it out")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args()
    rows = {}
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    for together in (False, True):
        print("\nall sweeps at once" if together else "\none sweep after another, as reproduce runs them")
        print("GPUs  cells  GPU-hours    hours    ideal  utilised  lost  failed  messages/s  plan/event")
        for gpus in options.gpus:
            place = Place(
                gpus,
                options.tflops * 1e12,
                options.start,
                60.0,
                options.spot_hours * HOUR,
                options.away,
                options.failing,
            )
            row = replay(place, options.seeds, options.benchmarks, together=together)
            rows[f"{gpus} GPUs, {'together' if together else 'in turn'}"] = row
            print(
                f"{gpus:4d}  {row['cells']:5.0f}  {row['work_gpu_hours']:9.1f}  {row['hours']:7.1f}  "
                f"{row['ideal_hours']:7.1f}  {row['utilisation']:7.0%}  {row['lost_attempts']:5.0f}  "
                f"{row['failed_cells']:6.0f}  {row['messages_per_second']:10.2f}  "
                f"{row['plan_ms_per_event']:7.2f} ms"
            )
    if options.cells:
        row = rows["many cells"] = many_cells(options.cells)
        print(
            f"\n{row['cells']:,.0f} cells, the plan alone: laid out in {row['plan_seconds']:.1f} s of CPU, "
            f"{row['milliseconds_per_cell']:.3f} ms per cell from hand-out to end, planned again with all "
            f"done in {row['resume_seconds']:.1f} s; {row['memory_mib']:,.0f} MiB at most."
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

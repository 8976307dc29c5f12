"""The cost of orchestration: the same final cells trained by a sweep and by bare loops.

    python benchmarks/overhead.py [--rounds 3] [--seeds 3]

The sweep is `python -m orchestrator.sweep` with lambda given, so that both sides train the same final cells.
The bare side is one plain process per core, which loops over its share of the cells with the training code
alone: no Ray, no ledger, no MLflow. The two sides take turns.

The time before the first cell begins (imports, the data and, for the sweep, Ray) and the time from the end of
the last cell to the exit are measured separately.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WEIGHT = 0.5
METHODS = ("classification", "rotation")

BARE = """
import json, sys, time
from search_spaces import find_benchmark
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from trainables.data.cache import prepare
import torch
from trainables.cell import CellRun
from trainables.run import Run, parse_method
torch.set_num_threads(1)
benchmark = find_benchmark("digits")
specification = draft(Request()).complete("cpu", benchmark.classes)
prepared = prepare(data_request(specification, "./data", cache="", download=False))
started = time.time()
for holdout, method, seed in json.load(sys.stdin):
    weights = {task: WEIGHT for task in parse_method(method).auxiliary}
    cell = CellRun(Run("digits", holdout, method, seed, specification.recipe, weights, False), prepared)
    for _ in cell.epochs():
        pass
    cell.result()
print(json.dumps([started, time.time()]))
""".replace("WEIGHT", str(WEIGHT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print(
        f"{os.cpu_count()} cores; 10 holdouts x {given.seeds} seeds x {len(METHODS)} methods, "
        f"{given.rounds} rounds"
    )
    ratios = []
    for number in range(given.rounds):
        sweep, sweep_rest = through_the_sweep(given.seeds)
        bare, bare_rest = bare_loops(given.seeds)
        ratios.append(sweep / bare)
        print(
            f"round {number + 1}: sweep {sweep:.1f} s (+ {sweep_rest:.1f} s start and end), "
            f"bare {bare:.1f} s (+ {bare_rest:.1f} s), ratio {sweep / bare:.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


def through_the_sweep(seeds: int) -> tuple[float, float]:
    """Return the seconds from the first cell's start to the last one's end, and the command's others."""
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "orchestrator.sweep", "digits", "--seeds", str(seeds)]
        command += ["--aux-weight", str(WEIGHT), "--storage", storage]
        began = time.time()
        subprocess.run(command, check=True, capture_output=True)
        whole = time.time() - began
        results = [
            json.loads(path.read_text())["attempt"] for path in Path(storage).glob("*/cells/*/result.json")
        ]
        assert len(results) == 10 * seeds * len(METHODS)
        first = min(attempt["finished_at"] - attempt["seconds"] for attempt in results)
        cells = max(attempt["finished_at"] for attempt in results) - first
        return cells, whole - cells


def bare_loops(seeds: int) -> tuple[float, float]:
    """Return the same for one process per core, each with an equal share of the cells."""
    cells = [(str(h), method, seed) for method in METHODS for h in range(10) for seed in range(seeds)]
    cores = os.cpu_count() or 1
    began = time.time()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(cores)
    ]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps(cells[number::cores]))
        process.stdin.close()
    spans = []
    for process in processes:
        assert process.stdout is not None
        spans.append(json.loads(re.findall(r"\[.*\]", process.stdout.read())[-1]))
        assert process.wait() == 0
    whole = time.time() - began
    busy = max(end for _, end in spans) - min(start for start, _ in spans)
    return busy, whole - busy


if __name__ == "__main__":
    main()

"""What a sweep of many small cells costs beside them: memory, time per cell, resuming, status, verify.

    python benchmarks/many_cells.py                  # 2,000 cells, inline: about 5 minutes on 2 cores
    python benchmarks/many_cells.py --executor ray   # the same on Ray, one cell at a time

The cells train WRN-10-1 for one epoch on a tenth of the digits, in a temporary folder. Orchestration is the
time between the first cell's start and the last one's end that no attempt accounts for: what its own record
says that it took. Memory is the driver's, read from /proc twice a second (Linux alone). CPU time is of the
driver as well, which inline trains the cells, too; it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

NAME = "many"
HOLDOUTS = 10
RECIPE = ["--set", "epochs=1", "ap_window=1", "train_fraction=0.1"]
FEW = 200
"""Cells of the beginning and of the end that are compared, and after which memory is read first."""


@dataclass(frozen=True)
class Sample:
    """What the driver took until some moment, in Unix seconds: memory in MiB, CPU time in seconds."""

    at: float
    memory: float
    cpu: float


class Driver:
    """A sweep command while it runs, sampled twice a second."""

    def __init__(self, words: list[str], storage: str) -> None:
        self.began = time.time()
        self.samples: list[Sample] = []
        line = [sys.executable, "-m", "orchestrator.sweep", *words, "--storage", storage, "--name", NAME]
        with Path(storage, "output").open("w") as output:
            self._process = subprocess.Popen(line, stdout=output, stderr=output)
        self._sampling = threading.Thread(target=self._sample)
        self._sampling.start()
        if self._process.wait() != 0:
            raise SystemExit(Path(storage, "output").read_text())
        self.seconds = time.time() - self.began
        self._sampling.join()

    def _sample(self) -> None:
        while self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):  # it has not begun, or has just ended
                self.samples.append(_look(_driver_of(self._process.pid)))
            time.sleep(0.5)

    def at(self, moment: float) -> Sample:
        """Return the first sample from a moment on, or the last one."""
        return next((sample for sample in self.samples if sample.at >= moment), self.samples[-1])


def _driver_of(command: int) -> int:
    """Return the process that drives the sweep: the command looks after it."""
    return int(Path(f"/proc/{command}/task/{command}/children").read_text().split()[0])


def _look(pid: int) -> Sample:
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / 2**20
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Sample(time.time(), resident, (int(fields[11]) + int(fields[12])) / tick)


def attempts(storage: str) -> list[tuple[float, float]]:
    """Return when each cell's attempt began and ended, in Unix seconds, in order of the end."""
    found = []
    for path in Path(storage, NAME, "cells").glob("*/result.json"):
        about = json.loads(path.read_text())["attempt"]
        found.append((about["finished_at"] - about["seconds"], about["finished_at"]))
    return sorted(found, key=lambda times: times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=2000, help="a multiple of 10, at least 400")
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    given = parser.parse_args()
    seeds = given.cells // HOLDOUTS
    if seeds * HOLDOUTS < 2 * FEW:
        parser.error(f"--cells {given.cells} is too few: give at least {2 * FEW}")
    words = ["digits", "--methods", "classification", "--detectors", "msp", *RECIPE]
    words += ["--executor", given.executor, *(["--max-concurrent", "1"] if given.executor == "ray" else [])]
    print(f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as storage:
        report_sweep(Driver([*words, "--seeds", str(seeds)], storage), attempts(storage))
        report_resuming([*words, "--seeds", str(seeds + 1)], storage, seeds * HOLDOUTS)
        for command in ("status", "verify"):
            row(f"{command}, of {(seeds + 1) * HOLDOUTS} cells", f"{timed(command, storage):.1f} s")


def report_sweep(driver: Driver, times: list[tuple[float, float]]) -> None:
    """Print what growing to so many cells did to the driver."""
    ends = [end for _, end in times]
    busy = sum(end - start for start, end in times)
    between = ends[-1] - min(start for start, _ in times) - busy
    row("cells, one after another", f"{len(times)} in {driver.seconds:.0f} s")
    row("start to the first cell", f"{min(start for start, _ in times) - driver.began:.1f} s")
    row("last cell to the end (report, MLflow)", f"{driver.began + driver.seconds - ends[-1]:.1f} s")
    row("orchestration per cell", f"{1000 * between / len(times):.1f} ms, of {1000 * busy / len(times):.0f}")
    early, late = driver.at(ends[FEW - 1]).memory, driver.at(ends[-1]).memory
    row(f"driver's memory after {FEW}, after all", f"{early:.0f}, {late:.0f} MiB: {late / early:.2f}x")
    peak = max(sample.memory for sample in driver.samples)
    row("at its peak, in the report", f"{peak:.0f} MiB: {peak / early:.2f}x")
    gaps = [after - before for before, after in itertools.pairwise(ends)]
    # The very first cells of a process warm up torch.
    first, last = (statistics.median(part) for part in (gaps[FEW // 4 : FEW // 4 + FEW], gaps[-FEW:]))
    row(f"time per cell, first {FEW}, last", f"{1000 * first:.0f}, {1000 * last:.0f} ms: {last / first:.2f}x")
    spans = ((ends[FEW // 4], ends[FEW // 4 + FEW]), (ends[-FEW], ends[-1]))
    first, last = (driver.at(end).cpu - driver.at(start).cpu for start, end in spans)
    row(f"driver's CPU time for {FEW} cells, first, last", f"{first:.1f}, {last:.1f} s: {last / first:.2f}x")


def report_resuming(words: list[str], storage: str, done: int) -> None:
    """Extend the sweep by a seed, and print how long the first new cell has to wait."""
    driver = Driver([*words], storage)
    began = sorted(start for start, _ in attempts(storage) if start > driver.began)
    cpu = driver.at(began[0]).cpu
    seconds = f"{began[0] - driver.began:.1f} s, {cpu:.1f} s of CPU time"
    row(f"going on with {done} done: to the first new cell", seconds)


def timed(command: str, storage: str) -> float:
    """Return the seconds that a command takes on the sweep; it must find nothing wrong."""
    began = time.time()
    line = [sys.executable, "-m", f"orchestrator.{command}", NAME, "--storage", storage]
    subprocess.run(line, check=True, capture_output=True)
    return time.time() - began


def _processor() -> str:
    """Return the processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def row(what: str, figure: str) -> None:
    print(f"{what:<48}{figure}", flush=True)


if __name__ == "__main__":
    main()

"""Lambdas that studies choose on real digits, by the rule of new sweeps and by version 0.1's, trained again.

    python benchmarks/search_compared.py     # 5 sweep seeds x 10 holdouts: 900 runs, half an hour of one core
    python benchmarks/search_compared.py --sweep-seeds 1 --holdouts 3

For each sweep seed and held-out class, both rules search lambda with as many trials of seed 0, on the same
split. What each chooses is trained again with fresh seeds on that split, and measured by validation accuracy.
The table has the mean over holdouts and fresh seeds by sweep seed; the difference, new minus old, is averaged
over held-out classes (each the mean over its sweep seeds), with Student's 95% interval over them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from pathlib import Path

import torch
from scipy.stats import t as student

from orchestrator.planning.cells import Definition, define, run_of
from orchestrator.planning.cells import lay_out as laid_out
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import RANDOM_STARTS, SPACED_STARTS, Specification, data_request
from orchestrator.planning.studies import Tried, choose, suggest
from trainables.cell import CellRun
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared

RULES = {"new": SPACED_STARTS, "version 0.1": RANDOM_STARTS}


def main() -> None:
    given = arguments().parse_args()
    torch.set_num_threads(1)
    drafted = draft(Request(methods=("rotation",), lambda_trials=given.trials))
    specification = drafted.complete("cpu", tuple("0123456789"))
    prepared = prepare(data_request(specification, "./data", cache="", download=False))
    holdouts = given.holdouts or list(prepared.classes)
    kept: list[dict[str, object]] = []
    began = time.time()
    print("| sweep seed | new % | version 0.1 % |\n|---|---|---|")
    for sweep_seed in range(given.sweep_seeds):
        seeded = dataclasses.replace(specification, sweep_seed=sweep_seed)
        for holdout in holdouts:
            row: dict[str, object] = {"sweep_seed": sweep_seed, "holdout": holdout}
            for name, starts in RULES.items():
                what = chosen(dataclasses.replace(seeded, starts=starts), prepared, holdout)
                fresh = [value(seeded, prepared, holdout, what, seed) for seed in range(1, given.fresh + 1)]
                row[name] = {"lambda": what.aux_weights["rotation"], "values": fresh}
            kept.append(row)
        means = [
            statistics.fmean(mean(row, name) for row in kept if row["sweep_seed"] == sweep_seed)
            for name in RULES
        ]
        print(f"| {sweep_seed} | {' | '.join(f'{100 * each:.2f}' for each in means)} |", flush=True)
    print(conclusion(kept, holdouts))
    print(f"{time.time() - began:.0f} s.")
    if given.json:
        given.json.write_text(json.dumps(kept))


def chosen(specification: Specification, prepared: Prepared, holdout: str) -> Hyperparameters:
    """Return what a study of the rule chooses."""
    study: Definition = define(specification, "rotation", (holdout,))
    past: list[Tried] = []
    for index in range(study.trials):
        what = suggest(study, past, index)
        past.append(Tried(index, what, value(specification, prepared, holdout, what, 0)))
    return choose(past)


def value(
    specification: Specification, prepared: Prepared, holdout: str, what: Hyperparameters, seed: int
) -> float:
    """Return the validation accuracy of a search run."""
    cells = laid_out(dataclasses.replace(specification, holdouts=(holdout,)), prepared.fingerprint)
    cell = dataclasses.replace(cells.studies[0].searches[0][0], seed=seed)
    running = CellRun(run_of(cell, specification, what), prepared)
    for _ in running.epochs():
        pass
    return running.result()["value"]


def mean(row: dict[str, object], name: str) -> float:
    return statistics.fmean(row[name]["values"])  # type: ignore[index]


def conclusion(kept: list[dict[str, object]], holdouts: list[str]) -> str:
    """Return the mean difference over held-out classes and its interval, in points."""
    by_holdout = [
        100
        * statistics.fmean(
            mean(row, "new") - mean(row, "version 0.1") for row in kept if row["holdout"] == holdout
        )
        for holdout in holdouts
    ]
    middle = statistics.fmean(by_holdout)
    if len(by_holdout) < 2:
        return f"Difference: {middle:+.2f} points."
    half = student.ppf(0.975, len(by_holdout) - 1) * statistics.stdev(by_holdout) / math.sqrt(len(by_holdout))
    return f"Difference: {middle:+.2f} points, 95% interval {middle - half:+.2f} to {middle + half:+.2f}."


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep-seeds", type=int, default=5)
    parser.add_argument("--holdouts", nargs="+", help="classes to hold out (default: all)")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--fresh", type=int, default=5, help="seeds with which the chosen lambda is trained")
    parser.add_argument("--json", type=Path, help="file for all values")
    return parser


if __name__ == "__main__":
    main()

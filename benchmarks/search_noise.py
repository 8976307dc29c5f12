"""How validation accuracy depends on lambda, and how much it varies between the seeds of one lambda.

    python benchmarks/search_noise.py                             # digits: 9 lambdas x 6 seeds x 2 holdouts
    python benchmarks/search_noise.py --benchmark cifar10 --data DIR --holdouts cat \\
        --set depth=10 width=2 epochs=4 train_fraction=0.1 batch_size=128 micro_batch=0 dropout=0

Each value is that of a search run, trained by one thread of this process. All runs of a holdout share one
split into training and validation, since the split depends on the sweep's seed alone.

A row of the table is a lambda: the mean of its seeds' accuracies and their standard deviation. Below it stand
the standard deviation between seeds, pooled over the lambdas, and what is left of it once each seed's mean
over the lambdas is taken off: the noise of a comparison in which every lambda has the same seed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification, data_request
from search_spaces import find_benchmark
from trainables.cell import CellRun
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared
from trainables.run import Run, parse_method


def main() -> None:
    given = arguments().parse_args()
    torch.set_num_threads(1)
    request = Request(
        given.benchmark, methods=("classification", given.method), assignments=tuple(given.settings)
    )
    specification = draft(request).complete("cpu", find_benchmark(given.benchmark).classes)
    prepared = prepare(data_request(specification, given.data, cache="", download=False))
    lambdas = [float(weight) for weight in np.geomspace(given.low, given.high, given.lambdas)]
    began, measured = time.time(), {}
    for holdout in given.holdouts:
        rows = [
            [
                value(specification, prepared, holdout, given.method, weight, seed)
                for seed in range(given.seeds)
            ]
            for weight in lambdas
        ]
        measured[holdout] = rows
        print(table(holdout, lambdas, np.array(rows)), flush=True)
    pooled = [spread(np.array(rows)) for rows in measured.values()]
    between, same = (math.sqrt(np.mean(np.square(column))) for column in zip(*pooled, strict=True))
    count = len(given.holdouts) * given.lambdas * given.seeds
    print(
        f"All holdouts: {100 * between:.2f} points between seeds, {100 * same:.2f} with each seed's mean "
        f"taken off. {count} runs in {time.time() - began:.0f} s."
    )
    if given.json:
        given.json.write_text(json.dumps({"lambdas": lambdas, "values": measured}))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--data", default="./data", help="folder of the benchmark's data")
    parser.add_argument("--method", default="rotation")
    parser.add_argument(
        "--set", nargs="*", default=[], dest="settings", help="fields of the recipe, key=value"
    )
    parser.add_argument("--holdouts", nargs="+", default=["3", "8"])
    parser.add_argument("--low", type=float, default=0.05, help="smallest lambda")
    parser.add_argument("--high", type=float, default=5.0, help="largest lambda")
    parser.add_argument("--lambdas", type=int, default=9, help="how many, evenly on a log scale")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--json", type=Path, help="file for the values: holdout, lambda, seed")
    return parser


def value(
    specification: Specification, prepared: Prepared, holdout: str, method: str, weight: float, seed: int
) -> float:
    """Return the validation accuracy of one search run."""
    weights = dict.fromkeys(parse_method(method).auxiliary, weight)
    run = Run(
        specification.benchmark,
        holdout,
        method,
        seed,
        specification.recipe,
        weights,
        search=True,
        sweep_seed=0,
    )
    cell = CellRun(run, prepared)
    for _ in cell.epochs():
        pass
    return cell.result()["value"]


def spread(values: np.ndarray) -> tuple[float, float]:
    """Return pooled deviations between seeds of values (lambda, seed), with and without the seeds' means."""
    lambdas, seeds = values.shape
    deviations = values - values.mean(axis=1, keepdims=True)
    left = deviations - deviations.mean(axis=0, keepdims=True)
    between = math.sqrt((deviations**2).sum() / (lambdas * (seeds - 1)))
    same = math.sqrt((left**2).sum() / ((lambdas - 1) * (seeds - 1)))
    return between, same


def table(holdout: str, lambdas: list[float], values: np.ndarray) -> str:
    between, same = spread(values)
    lines = [f"Held out: {holdout}", "", "| lambda | accuracy % | sd between seeds |", "|---|---|---|"]
    for weight, row in zip(lambdas, 100 * values, strict=True):
        lines.append(f"| {weight:.3g} | {row.mean():.2f} | {row.std(ddof=1):.2f} |")
    lines += [
        "",
        f"{100 * between:.2f} points between seeds, {100 * same:.2f} with each seed's mean taken off",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

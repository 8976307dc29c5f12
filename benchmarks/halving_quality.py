"""How often successive halving keeps the lambda that full training chooses, and what it costs.

    python benchmarks/halving_quality.py     # digits, 10 sweep seeds x 4 holdouts x 9 lambdas: 360 runs
    python benchmarks/halving_quality.py --benchmark cifar10 --data DIR --holdouts cat \\
        --set depth=10 width=2 epochs=9 train_fraction=0.1 batch_size=128 micro_batch=0 dropout=0

Every lambda of a study is trained to the end and validated at the rungs, too, which changes nothing else.
Halving takes the rungs' values and sees no more of a trial than that. A step is a training step of a trial.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import torch

from orchestrator.planning.cells import define, lay_out, run_of
from orchestrator.planning.halving import stopped
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification, data_request
from orchestrator.planning.studies import suggest
from search_spaces import find_benchmark
from trainables.cell import CellRun
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared


def main() -> None:
    given = arguments().parse_args()
    torch.set_num_threads(1)
    request = Request(
        given.benchmark,
        methods=("rotation",),
        lambda_trials=given.trials,
        halving=given.halving,
        assignments=tuple(given.settings),
    )
    specification = draft(request).complete("cpu", find_benchmark(given.benchmark).classes)
    prepared = prepare(data_request(specification, given.data, cache="", download=False))
    rungs = define(specification, "rotation", (given.holdouts[0],)).rungs
    began, kept = time.time(), []
    for sweep_seed in range(given.sweep_seeds):
        seeded = dataclasses.replace(specification, sweep_seed=sweep_seed)
        for holdout in given.holdouts:
            kept.append(study(seeded, prepared, holdout))
        print(
            f"sweep seed {sweep_seed}: {[each['kept'] for each in kept[-len(given.holdouts) :]]}", flush=True
        )
    share = statistics.fmean(each["share"] for each in kept)
    lost = [100 * each["lost"] for each in kept]
    print(
        f"{len(kept)} studies of {given.trials} lambdas, rungs after epochs {', '.join(map(str, rungs))}. "
        f"Halving takes {share:.3f} of the steps of full trainings, keeps the lambda that these choose in "
        f"{sum(each['kept'] for each in kept)}, and gives away {statistics.fmean(lost):.2f} points of "
        f"validation accuracy on average ({max(lost):.2f} at most). {time.time() - began:.0f} s."
    )
    if given.json:
        given.json.write_text(json.dumps(kept))


def study(specification: Specification, prepared: Prepared, holdout: str) -> dict[str, float]:
    """Train every lambda of a study to the end; return what halving would have kept, cost and lost."""
    definition = define(specification, "rotation", (holdout,))
    cells = lay_out(dataclasses.replace(specification, holdouts=(holdout,)), prepared.fingerprint)
    values: dict[int, dict[int, float]] = {}
    steps = 0
    for index in range(definition.trials):
        run = run_of(cells.studies[0].searches[index][0], specification, suggest(definition, [], index))
        running = CellRun(run, prepared, rungs=definition.rungs)
        for _ in running.epochs():
            pass
        found = {rung: running.validated(rung) for rung in definition.rungs}
        values[index] = {rung: 0.0 if value is None else value for rung, value in found.items()}
        steps = running.training.steps_per_epoch
    ends, _ = stopped(values, definition.rungs, definition.halving)
    last = definition.rungs[-1]

    def best(indices: list[int]) -> int:
        return min(indices, key=lambda index: (-values[index][last], index))

    full, halved = best(list(values)), best([index for index in values if index not in ends])
    whole = definition.trials * definition.epochs * steps
    trained = sum(ends.get(index, definition.epochs) * steps for index in values)
    return {
        "kept": int(full == halved),
        "share": trained / whole,
        "lost": values[full][last] - values[halved][last],
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="digits")
    parser.add_argument("--data", default="./data")
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="fields of the recipe")
    parser.add_argument("--holdouts", nargs="+", default=["1", "3", "5", "8"])
    parser.add_argument("--sweep-seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--halving", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()

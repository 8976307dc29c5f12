"""How much validation accuracy a study of lambda gives away, by its rule and its number of trials.

    python benchmarks/search_quality.py                        # a few minutes on one core
    python benchmarks/search_quality.py --noise 0.3 --json FILE

Simulated studies: a curve of validation accuracy against log lambda whose peak is drawn evenly over the
space, 0.05 to 5, so that it is never on a value of a list; each trial sees the curve plus normal noise, by
default that which search_noise.py measured between the seeds of one lambda. Regret is the peak minus the
curve at the lambda that the study chooses, in points, averaged over repetitions; ± is its standard error. All
rules see the same curves, and a trial's noise does not depend on the rule.

Curves: "peak" falls by `depth` points per squared decade on both sides; "skewed" falls four times as fast
above the peak; "plateau" is flat below the peak and falls above it, as those measured on real images do.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.starting_points import starting_points
from orchestrator.planning.studies import Tried, choose

LOW, HIGH = math.log10(0.05), math.log10(5.0)
SHAPES = ("peak", "skewed", "plateau")
GRID = (0.1, 0.5, 1.0, 2.0)
"""Values as papers list them, four a study; longer studies add values between and around them."""
LONGER_GRIDS = {
    4: GRID,
    8: (0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 5.0),
    16: tuple(np.geomspace(0.06, 4, 16).round(2)),
}


@dataclass(frozen=True)
class Curve:
    """Validation accuracy, in points below its peak, against log10 of lambda."""

    shape: str
    peak: float
    depth: float

    def at(self, place: float) -> float:
        """Return the (negative) accuracy at a place, or the mean over several dimensions' places."""
        away = place - self.peak
        if self.shape == "plateau" and away < 0:
            return 0.0
        steep = 4.0 if self.shape == "skewed" and away > 0 else 1.0
        return -steep * self.depth * away**2


Observe = Callable[[int, tuple[float, ...]], float]
"""From a trial's number and its log10 places, its noisy accuracy."""
Rule = Callable[[Observe, int, int, int], list[Tried]]
"""From observations, a number of trials, of dimensions and a seed: what was tried."""


def asked(starts: int | None, sampler: Callable[[int, int], optuna.samplers.BaseSampler]) -> Rule:
    """Return a rule that begins with spaced points, all of them for None, and goes on with a sampler."""

    def rule(observe: Observe, trials: int, dimensions: int, seed: int) -> list[Tried]:
        count = trials if starts is None else min(starts, trials)
        study = optuna.create_study(direction="maximize", sampler=sampler(trials, seed))
        spaces: dict[str, optuna.distributions.BaseDistribution] = {
            f"x{d}": optuna.distributions.FloatDistribution(LOW, HIGH) for d in range(dimensions)
        }
        for point in starting_points(count, dimensions, seed):
            study.enqueue_trial({f"x{d}": LOW + u * (HIGH - LOW) for d, u in enumerate(point)})
        found = []
        for index in range(trials):
            trial = study.ask(spaces)
            places = tuple(float(trial.params[f"x{d}"]) for d in range(dimensions))
            value = observe(index, places)
            study.tell(trial, value)
            found.append(_tried(index, places, value))
        return found

    return rule


def on_grid(observe: Observe, trials: int, dimensions: int, seed: int) -> list[Tried]:
    """Try a list of lambdas such as papers give."""
    del dimensions, seed
    places = [(math.log10(value),) for value in LONGER_GRIDS[trials]]
    return [_tried(index, place, observe(index, place)) for index, place in enumerate(places)]


def _tried(index: int, places: Sequence[float], value: float) -> Tried:
    names = ("lambda", "learning_rate", "weight_decay")
    weights = {name: 10.0**place for name, place in zip(names, places, strict=False)}
    return Tried(index, Hyperparameters(weights), value)


def tpe(startup: Callable[[int], int], **changes: bool) -> Callable[[int, int], optuna.samplers.BaseSampler]:
    """Return what makes a TPE sampler, by the number of trials and a seed."""
    return lambda trials, seed: optuna.samplers.TPESampler(
        n_startup_trials=startup(trials), seed=seed, **changes
    )


RULES: dict[str, Rule] = {
    "version 0.1 (random, then TPE)": asked(0, tpe(lambda trials: max(2, trials // 3))),
    "random": asked(0, lambda _, seed: optuna.samplers.RandomSampler(seed=seed)),
    "spaced": asked(None, tpe(lambda _: 1)),
    "3 spaced, then TPE": asked(3, tpe(lambda _: 1)),
    "4 spaced, then TPE": asked(4, tpe(lambda _: 1)),
    "6 spaced, then TPE": asked(6, tpe(lambda _: 1)),
    "8 spaced, then TPE": asked(8, tpe(lambda _: 1)),
    "12 spaced, then TPE": asked(12, tpe(lambda _: 1)),
    "4 spaced, then GP": asked(4, lambda _, seed: optuna.samplers.GPSampler(n_startup_trials=1, seed=seed)),
}
SLOW = {"4 spaced, then GP"}
"""A tenth of a second a trial: an eighth of the repetitions."""


def regrets(
    rule: Rule, shape: str, trials: int, dimensions: int, given: argparse.Namespace, repetitions: int
) -> dict[str, list[float]]:
    """Return the regret of each repetition, by how the study chooses."""
    found: dict[str, list[float]] = {"best": [], "smoothed": []}
    for repetition in range(repetitions):
        draws = np.random.default_rng([given.seed, repetition])
        curves = [Curve(shape, peak, given.depth) for peak in draws.uniform(LOW, HIGH, dimensions)]
        noise = draws.normal(0, given.noise, trials)

        def true(places: Sequence[float], curves: Sequence[Curve] = curves) -> float:
            return sum(curve.at(place) for curve, place in zip(curves, places, strict=True))

        tried = rule(lambda i, places: true(places) + noise[i], trials, dimensions, repetition)  # noqa: B023
        for how in found if dimensions == 1 else ("best",):
            chosen = choose(tried, how).aux_weights.values()
            found[how].append(-true([math.log10(value) for value in chosen]))
    return found


def main() -> None:
    given = arguments().parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    kept: dict[str, dict[str, list[float]]] = {}
    rules = {**RULES, "list": on_grid} if given.dimensions == 1 else RULES
    for trials in given.trials:
        print(f"\n{trials} trials, regret in points ({given.repetitions} repetitions)\n")
        hows = ("best", "smoothed") if given.dimensions == 1 else ("best",)
        print(f"| rule | {' | '.join(f'{shape}, {how}' for shape in SHAPES for how in hows)} | mean, best |")
        print("|---" * (2 + len(SHAPES) * len(hows)) + "|")
        for name, rule in rules.items():
            starts = int(name.split()[0]) if name[0].isdigit() else 0
            if starts >= trials or (name == "list" and trials not in LONGER_GRIDS):
                continue
            repetitions = given.repetitions // 8 if name in SLOW else given.repetitions
            by_shape = {s: regrets(rule, s, trials, given.dimensions, given, repetitions) for s in SHAPES}
            texts = [shown(by_shape[shape][how]) for shape in SHAPES for how in hows]
            together = [value for shape in SHAPES for value in by_shape[shape]["best"]]
            print(f"| {name} | {' | '.join(texts)} | {shown(together)} |", flush=True)
            kept[f"{trials} {name}"] = {s: by_shape[s]["best"] for s in SHAPES}
    if given.json:
        given.json.write_text(json.dumps(kept))


def shown(values: Sequence[float]) -> str:
    """Return a mean and its standard error."""
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--dimensions", type=int, default=1, help="2: lambda and learning rate")
    parser.add_argument("--noise", type=float, default=0.85, help="points, of one trial")
    parser.add_argument(
        "--depth", type=float, default=1.5, help="points lost per squared decade from the peak"
    )
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the regret of every repetition")
    return parser


if __name__ == "__main__":
    main()

"""What a sweep is: all that decides its cells and their results, apart from where and how it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces import find_benchmark
from search_spaces.benchmark import Benchmark, Grid, parse_space
from trainables.mistake import Mistake, unknown
from trainables.run import NO_HOLDOUT, Recipe, canonical, check_fits, parse_method, with_fidelity
from trainables.settings import assign, check, setting, split_assignments, valid_of

if TYPE_CHECKING:
    from orchestrator.ledger.ledger import Ledger

GROWING = ("methods", "holdouts", "seeds")
"""Fields in which a sweep that exists may grow."""

GPU_PRECISION = "bfloat16"
"""What trains on GPUs unless it is set: their matrix units are for it. Validation and scores stay float32."""


@dataclass(frozen=True)
class Conduct:
    """How a sweep is carried out; none of it changes a result, so it may differ when it goes on."""

    retries: int = setting(3, "further tries of a cell that fails", at_least=0)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints, 0 for every epoch", at_least=0)
    keep_checkpoints: bool = setting(False, "keep the checkpoints of cells that are done")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Specification:
    """A benchmark, what is compared on it and how lambda is chosen."""

    benchmark: str
    methods: tuple[str, ...]
    holdouts: tuple[str, ...]
    seeds: int
    recipe: Recipe
    spaces: dict[str, str]
    """Where each auxiliary task's weight is searched, as `parse_space` reads it."""
    aux_weights: dict[str, float] | None = None
    """Given weights by task: then nothing is searched."""
    select: str = "holdout"
    lambda_trials: int = setting(8, "search cells a study", at_least=1)
    sweep_seed: int = setting(0, "what every random stream starts from", at_least=0)
    search_round: int = setting(1, "lambdas a study asks for at a time", at_least=1)
    skip_bad_images: bool = setting(False, "go on without images that cannot be read")
    workers: int = 1
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises Mistake for a setting that is not valid."""
        check(self)

    def as_json(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def from_json(values: dict) -> Specification:
        """The specification that `as_json` gave."""
        tuples = {name: tuple(values[name]) for name in ("methods", "holdouts")}
        return Specification(**{**values, **tuples, "recipe": Recipe(**values["recipe"])})

    def default_name(self) -> str:
        """The benchmark and a short hash of the specification."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return f"{self.benchmark}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def tasks(self, method: str) -> tuple[str, ...]:
        """The auxiliary tasks of a method that have a weight."""
        return parse_method(method).auxiliary

    def searches(self, method: str) -> bool:
        """Whether the method's weights are searched."""
        return bool(self.tasks(method)) and self.aux_weights is None


def read_stored(ledger: Ledger) -> tuple[Specification, dict[str, Any]]:
    """A sweep's specification, and all of its sweep.json; Mistake where that is not one of this version."""
    values = ledger.read_sweep()
    try:
        specification = Specification.from_json(values["specification"])
        Conduct(**values.setdefault("conduct", {}))
        for name in ("fingerprint", "classes"):
            values[name]
    except (KeyError, TypeError, AttributeError) as error:
        raise Mistake(
            f"{ledger.path('sweep.json')} is not a sweep of this version (at {error}): go on with the "
            "version that wrote it, or restore the file from a copy."
        ) from None
    return specification, values


def check_extends(new: Specification, old: Specification, name: str) -> None:
    """Raises Mistake, naming the fields, unless `new` is `old` or grows it by holdouts, methods or seeds."""
    before, after = _flat(old), _flat(new)
    changed = [field for field in after if after[field] != before.get(field)]
    refused = [field for field in changed if not _grows(field, new, old)]
    if refused:
        listed = ", ".join(f"{field} {before.get(field)} (asked: {after[field]})" for field in refused)
        raise Mistake(
            f"The sweep {name!r} exists with another specification: {listed}. Choose another --name, or "
            f"go on with it as it is by --resume --name {name}."
        )


def _grows(field: str, new: Specification, old: Specification) -> bool:
    if field == "seeds":
        return new.seeds > old.seeds
    if field == "holdouts" and new.select == "benchmark":
        return False
    if field in ("spaces", "aux_weights"):  # more methods bring more tasks
        before, after = getattr(old, field), getattr(new, field)
        return before is not None and after is not None and before.items() <= after.items()
    return field in GROWING and set(getattr(old, field)) < set(getattr(new, field))


def _flat(specification: Specification) -> dict[str, object]:
    values = specification.as_json()
    recipe = values.pop("recipe")
    for name in ("methods", "holdouts"):  # their order changes no result
        values[name] = sorted(values[name])  # type: ignore[call-overload]
    return {**values, **recipe}  # type: ignore[dict-item]


@dataclass(frozen=True)
class Request:
    """What was typed, before the benchmark's defaults and the data's classes complete it."""

    benchmark: str = "digits"
    methods: tuple[str, ...] = ("classification", "rotation")
    holdouts: tuple[str, ...] = ()
    seeds: int = 3
    select: str = "holdout"
    lambda_trials: int | None = None
    aux_weight: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    workers: int = 1
    threads: int = 1
    device: str = "cpu"


def complete(request: Request, classes: tuple[str, ...] | None) -> tuple[Specification, Conduct]:
    """The specification and conduct that a request means, given the data's classes where they are known.

    Raises Mistake, before any work, for whatever does not exist or is not valid.
    """
    benchmark = find_benchmark(request.benchmark)
    for method in request.methods:
        benchmark.check_method(method)
    methods = _unique("--methods", tuple(map(canonical, request.methods)))
    recipe, own, conduct, spaces = _settings(benchmark, request, methods)
    for method in methods:
        check_fits(method, recipe)
    tasks = {task for method in methods for task in parse_method(method).auxiliary}
    searched = {task: str(benchmark.spaces[task]) for task in benchmark.spaces if task in tasks}
    unused = sorted(set(spaces) - tasks)
    if unused:
        raise Mistake(f"--set lambda.{unused[0]} has no use: no method of this sweep trains {unused[0]}.")
    if request.lambda_trials is not None:
        own["lambda_trials"] = request.lambda_trials
        _check_trials(request, {**searched, **spaces})
    specification = Specification(
        benchmark=benchmark.name,
        methods=methods,
        holdouts=_holdouts(request.holdouts, classes),
        seeds=request.seeds,
        recipe=recipe,
        spaces={**searched, **spaces},
        aux_weights=_weights(request.aux_weight, sorted(tasks)),
        select=request.select,
        workers=request.workers,
        threads=request.threads,
        device=request.device,
        **{"lambda_trials": benchmark.lambda_trials, **own},
    )
    return specification, conduct


def _settings(
    benchmark: Benchmark, request: Request, methods: tuple[str, ...]
) -> tuple[Recipe, dict, Conduct, dict[str, str]]:
    """The recipe, the sweep's own fields, the conduct and lambda's spaces that --set leaves."""
    given = split_assignments(request.assignments)
    spaces = {
        name.removeprefix("lambda."): str(parse_space(given.pop(name)))
        for name in [name for name in given if name.startswith("lambda.")]
    }
    recipe = benchmark.recipe_for(methods)
    if request.device == "cuda":
        recipe = dataclasses.replace(recipe, precision=GPU_PRECISION)
    if benchmark.total_batch and request.workers > 1:
        share = max(2, benchmark.total_batch // request.workers)
        divides = recipe.micro_batch and share > recipe.micro_batch and share % recipe.micro_batch == 0
        micro = recipe.micro_batch if divides else 0
        patches = max(1, recipe.cpc_batch_size // request.workers)
        recipe = dataclasses.replace(recipe, batch_size=share, micro_batch=micro, cpc_batch_size=patches)
    of_recipe, of_conduct, of_sweep = valid_of(Recipe), valid_of(Conduct), valid_of(Specification)
    for name in given:
        if name not in of_recipe and name not in of_conduct and name not in of_sweep:
            raise unknown("field", name, sorted([*of_recipe, *of_conduct, *of_sweep, "lambda.<task>"]))
    if "fidelity" in given:
        checked = assign(recipe, {"fidelity": given["fidelity"]})
        recipe = with_fidelity(recipe, checked.fidelity)
        if checked.fidelity == "reference":
            recipe = dataclasses.replace(recipe, **benchmark.reference_for(methods))  # type: ignore[arg-type]
    if "batch_size" in given and "micro_batch" not in given and recipe.micro_batch:
        recipe = dataclasses.replace(recipe, micro_batch=0)
    recipe = assign(recipe, {k: v for k, v in given.items() if k in of_recipe and k != "fidelity"})
    conduct = assign(Conduct(), {k: v for k, v in given.items() if k in of_conduct})
    blank = Specification(benchmark.name, (), (), 1, recipe, {})
    names = [name for name in given if name in of_sweep]
    own = assign(blank, {name: given[name] for name in names})
    return recipe, {name: getattr(own, name) for name in names}, conduct, spaces


def _holdouts(asked: tuple[str, ...], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    if not asked:
        return classes or ()
    for name in asked:
        if classes is not None and name not in (*classes, NO_HOLDOUT):
            raise unknown("class to hold out", name, (*classes, NO_HOLDOUT))
    return _unique("--holdouts", asked)


def _unique(option: str, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"{option} names {name!r} twice: name it once.")
    return names


def _check_trials(request: Request, spaces: dict[str, str]) -> None:
    """Raises Mistake where a number of lambdas to try was given and would change nothing."""
    if request.aux_weight:
        raise Mistake("--lambda-trials has no use beside --aux-weight: lambda is given, so none is searched.")
    if spaces and all(isinstance(parse_space(space), Grid) for space in spaces.values()):
        listed = "; ".join(f"{task} in {space}" for task, space in sorted(spaces.items()))
        raise Mistake(
            f"--lambda-trials has no use here: lists are tried whole ({listed}); shorten one with "
            "--set lambda.<task>=a,b."
        )


def _weights(texts: tuple[str, ...], tasks: list[str]) -> dict[str, float] | None:
    """Weights by task from words such as 0.5 (every task's) or rotation=0.5."""
    if not texts:
        return None
    if not tasks:
        raise Mistake(
            "--aux-weight has no use: no method of this sweep trains an auxiliary task; leave it out."
        )
    weights: dict[str, float] = {}
    for text in texts:
        task, equals, number = text.rpartition("=")
        if equals and task not in tasks:
            raise Mistake(
                f"--aux-weight {text} names no task of this sweep's methods; they train: "
                f"{', '.join(tasks) or 'none'}."
            )
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise Mistake(
                f"--aux-weight {text} is not valid: give a finite number of at least 0, or task=number."
            )
        weights.update(dict.fromkeys([task] if equals else tasks, value))
    missing = [task for task in tasks if task not in weights]
    if missing:
        raise Mistake(f"--aux-weight gives no weight for {missing[0]}: add {missing[0]}=NUMBER.")
    return weights

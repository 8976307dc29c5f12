"""What a person asked for, and the specification that it means.

A request is complete but for two things that only the machine and the data can say: the kind of device,
and, for some benchmarks, the classes. Everything else is checked before either is looked at.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.ledger.storage import default_storage
from orchestrator.planning.cells import Definition, define
from orchestrator.planning.hyperparameters import Weights
from orchestrator.planning.named_sets import named_sets
from orchestrator.planning.plugins import Plugin, load, read_plugin
from orchestrator.planning.specification import (
    BEST,
    ONE_SE,
    OWN,
    PAPER,
    SPACED_STARTS,
    RunSettings,
    Specification,
    read_searched,
)
from search_spaces import DEFAULT, find_benchmark
from search_spaces.benchmark import DEFAULT_METHODS, Benchmark
from trainables.auxiliary import TASKS, find_task
from trainables.data.named_images import NamedImages
from trainables.detectors import DEFAULT_DETECTORS, DETECTORS
from trainables.mistake import Mistake, unknown
from trainables.recipe import Recipe, used_count, with_fidelity
from trainables.run import NO_HOLDOUT, check_fits, parse_method
from trainables.settings import assign, split_assignments, valid_of
from trainables.spaces import Choices, Grid, Integers, Space, Weighing, parse_space

T = TypeVar("T")

DEFAULT_DATA = "./data"
GPU_PRECISION = "bfloat16"
"""What trains on GPUs unless it is set: their matrix units are for it. Validation and scores stay float32."""


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for; the defaults of the command line stand here and nowhere else."""

    benchmark: str = DEFAULT
    methods: tuple[str, ...] = DEFAULT_METHODS
    holdouts: tuple[str, ...] = ()
    """Empty for every class."""
    seeds: int = 3
    select: str = "holdout"
    lambda_trials: int | None = None
    """None for the benchmark's."""
    aux_weight: tuple[str, ...] = ()
    """Words such as 0.5 or task=0.5; empty for a search."""
    assignments: tuple[str, ...] = ()
    """Words of --set, key=value."""
    workers: int = 1
    groups: str = ""
    """What tells an image's group: a pattern of paths, or a column of Parquet files; "" for no groups."""
    search: tuple[str, ...] = ()
    """Words FIELD=SPACE: fields of the recipe that are searched for every method, beside lambda."""
    search_seeds: int = 1
    choose: str = BEST
    halving: int = 0
    """0 for none."""
    protocol: str = OWN

    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    """What scores the test images."""
    ood: tuple[str, ...] = ()
    """Words NAME=PATH of image sets that are scored beside the test images."""
    ood_resize: str | None = None
    """How their images are brought to the benchmark's size; None refuses other sizes."""
    crops_per_image: int = 1
    ood_seed: int = 0
    """Seed of the crops."""
    plugins: tuple[str, ...] = ()
    """Paths of files with further detectors, auxiliary tasks and benchmarks."""
    data: str | None = None
    """None for DEFAULT_DATA, or for where the ledger says that the data was."""
    cache: str = ""
    download: bool = False
    cpus_per_worker: float = 1.0
    gpus_per_worker: float | None = None
    """None for 1 if this machine, or one of the cluster's, has a GPU, else 0."""
    max_concurrent: int = 0
    """0 for as many cells as fit."""
    storage: str = field(default_factory=default_storage)
    tracking_uri: str | None = None
    executor: str = "ray"
    address: str | None = None
    price_per_gpu_hour: float | None = None
    """For costs in money, in whatever currency; it may differ each time."""
    name: str | None = None
    """None for the specification's default name."""
    resume: bool = False
    accept_versions: bool = False
    """Whether it may go on with other versions of packages, with which results can differ."""
    dry_run: bool = False
    probe: float | None = None
    """Seconds for which the sweep's own steps are measured before it runs; None for no probe."""
    write_config: bool = False
    """Whether to print the request as a file of options, and no more."""
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the fields that were given."""

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def goes_on_as_it_was(self) -> bool:
        """Whether the ledger says what the sweep is: --resume --name NAME with no word on what it is."""
        defaults = Request()
        says_what = self.given & WHAT or any(getattr(self, f) != getattr(defaults, f) for f in WHAT)
        return self.resume and self.name is not None and not says_what


WHAT = frozenset(
    (
        *("benchmark", "methods", "holdouts", "seeds", "select"),
        *("lambda_trials", "aux_weight", "assignments", "workers"),
        *("search", "search_seeds", "choose", "halving", "protocol", "groups"),
    )
)
"""The fields of a request that say what the sweep is."""


@dataclass(frozen=True)
class Draft:
    """A request that was checked against its benchmark; device and classes are still to be filled in."""

    request: Request
    settings: RunSettings
    plugins: tuple[Plugin, ...]
    precision_is_set: bool
    _specification: Specification

    def complete(self, device: str, classes: tuple[str, ...] | None) -> Specification:
        """Return the specification on a kind of device ("cpu" or "cuda") and the data's classes.

        Without classes (None) only the holdouts that were named are in it. Raises Mistake for a holdout that
        is none of the classes.
        """
        recipe = self._specification.recipe
        if device == "cuda" and not self.precision_is_set:
            recipe = dataclasses.replace(recipe, precision=GPU_PRECISION)
        holdouts = _holdouts(self.request.holdouts, classes)
        return dataclasses.replace(self._specification, device=device, recipe=recipe, holdouts=holdouts)

    def check_batch(self, images: Mapping[str, int]) -> None:
        """Raise Mistake if a batch size was set that no cell can fill, from each class's training images.

        A benchmark's own batch size, which nobody asked for, is cut to what there is.
        """
        recipe, workers = self._specification.recipe, self.request.workers
        counts = {name: used_count(count, recipe) for name, count in images.items()}
        held_out = self.request.holdouts or tuple(counts)
        most = sum(counts.values()) - min(counts.get(name, 0) for name in held_out)
        if "batch_size" in split_assignments(self.request.assignments) and recipe.batch_size * workers > most:
            shared = f" x {workers} workers" if workers > 1 else ""
            raise Mistake(
                f"batch_size={recipe.batch_size}{shared} is more than the {most} training images of a cell: "
                f"set batch_size to {max(2, most // workers)} or less."
            )


def draft(request: Request) -> Draft:
    """Check a request against its benchmark's file; raise Mistake for what does not exist or does not fit.

    Plug-ins are executed, since they may define what is asked for.
    """
    plugins = read_plugins(request)
    brought = load(plugins)
    check_detectors(request.detectors)
    benchmark = find_benchmark(request.benchmark)
    for method in request.methods:
        benchmark.check_method(method)
    methods = _unique("--methods", tuple(map(benchmark.canonical, request.methods)))
    given = split_assignments(request.assignments)
    fields = {name: text for name, text in given.items() if not name.startswith("lambda.")}
    _check_known(fields)
    words = split_assignments(request.search, "--search")
    recipe = _recipe(benchmark, request.workers, methods, fields, searched=words)
    for method in methods:
        check_fits(method, recipe)
    tasks = benchmark.tasks(methods)
    spaces, one_lambda = _spaces(request, benchmark, tasks, given)
    specification = Specification(
        benchmark=benchmark.name,
        methods=methods,
        holdouts=_holdouts(request.holdouts, benchmark.classes),
        seeds=request.seeds,
        recipe=recipe,
        spaces=spaces,
        aux_weights=_weights(request.aux_weight, sorted(tasks)),
        select=request.select,
        lambda_trials=benchmark.lambda_trials,
        workers=request.workers,
        threads=request.threads,
        grouped_by=request.groups,
        plugins={name: brought[name] for name in (benchmark.name, *tasks) if name in brought},
        search=_searched(words, recipe, methods, fields),
        search_seeds=request.search_seeds,
        choose=request.choose,
        halving=request.halving,
        protocol=request.protocol,
        one_lambda=one_lambda,
    )
    specification = _assigned(specification, fields)
    if request.lambda_trials is not None:
        _check_trials(request, spaces)
        if "lambda_trials" in fields:
            raise Mistake("--lambda-trials and --set lambda_trials say the same thing: give one of them.")
        specification = dataclasses.replace(specification, lambda_trials=request.lambda_trials)
    specification = _with_starts(specification)
    _check_studies(request, specification)
    settings = dataclasses.replace(
        _assigned(RunSettings(), fields), detectors=request.detectors, image_sets=image_sets(request)
    )
    return Draft(request, settings, plugins, "precision" in fields, specification)


def _spaces(
    request: Request, benchmark: Benchmark, tasks: tuple[str, ...], given: dict[str, str]
) -> tuple[dict[str, Weighing], tuple[str, ...]]:
    """Return where each task's lambda is searched, and the tasks that have one for the benchmark."""
    said = {n.removeprefix("lambda."): parse_space(t) for n, t in given.items() if n.startswith("lambda.")}
    unused = sorted(said.keys() - set(tasks))
    if unused:
        raise Mistake(f"--set lambda.{unused[0]} has no use: no method of this sweep trains {unused[0]}.")
    if request.protocol == OWN:
        return {**{task: benchmark.space(task) for task in tasks}, **said}, ()
    _check_protocol(request, benchmark, tasks, said)
    paper = {task: benchmark.paper_selection[task] for task in tasks}
    pooled = tuple(task for task, selection in paper.items() if selection.for_each == "benchmark")
    for method in request.methods:
        kinds = {paper[task].for_each for task in parse_method(method).auxiliary}
        if len(kinds) > 1:
            raise Mistake(
                f"--protocol {PAPER} is not known for {method}: the paper chose lambdas of its tasks in "
                "different ways; leave it out."
            )
    return {task: selection.space for task, selection in paper.items()}, pooled


def _check_protocol(
    request: Request, benchmark: Benchmark, tasks: tuple[str, ...], said: Collection[str]
) -> None:
    """Raise Mistake if the paper's protocol is not known, or something else of it is asked for."""
    unknown_tasks = [task for task in tasks if task not in benchmark.paper_selection]
    if not tasks or unknown_tasks:
        what = f"lambda of {unknown_tasks[0]}" if unknown_tasks else "lambda, which no method here has"
        raise Mistake(
            f"--protocol {PAPER} is not known for {benchmark.name}: the paper chose no {what}; leave it out."
        )
    others = {
        "--select": request.select != Request.select,
        "--set lambda.<task>": bool(said),
        "--aux-weight": bool(request.aux_weight),
        "--search": bool(request.search),
        "--search-seeds": request.search_seeds != 1,
        "--choose": request.choose != BEST,
        "--halving": bool(request.halving),
    }
    for option, is_given in others.items():
        if is_given:
            raise Mistake(
                f"--protocol {PAPER} says how lambda is chosen, and {option} says it otherwise: leave one of "
                "them out."
            )


def _searched(
    words: dict[str, str], recipe: Recipe, methods: tuple[str, ...], fields: dict[str, str]
) -> dict[str, Space]:
    """Return where fields of the recipe are searched; raise Mistake for what no method could train with."""
    for name in words.keys() & fields.keys():
        raise Mistake(f"--search {name} and --set {name} contradict each other: leave one of them out.")
    found = {name: read_searched(name, text) for name, text in words.items()}
    for name, space in found.items():
        ends = space.values if isinstance(space, Grid | Choices) else (space.low, space.high)
        some = (ends[0] + 1, *ends) if isinstance(space, Integers) else ends  # type: ignore[operator]
        for value in some:
            tried = dataclasses.replace(recipe, **{name: value})  # type: ignore[arg-type]
            for method in methods:
                check_fits(method, tried)
    return found


def _with_starts(specification: Specification) -> Specification:
    """Return a new sweep's specification; how studies begin is said only where it matters."""
    ranged = specification.searches_ranges
    return dataclasses.replace(specification, starts=SPACED_STARTS) if ranged else specification


def _study(specification: Specification, method: str) -> Definition:
    return define(specification, method, specification.holdouts)


def _check_studies(request: Request, specification: Specification) -> None:
    """Raise Mistake for an option of searches that has no use, or that a study of the sweep cannot do."""
    studies = [_study(specification, m) for m in specification.methods if specification.searches(m)]
    asked = {
        "--search-seeds": request.search_seeds != 1,
        "--choose": request.choose != BEST,
        "--halving": bool(request.halving),
    }
    for option, is_given in asked.items():
        if is_given and not studies:
            raise Mistake(f"{option} has no use: this sweep searches nothing; leave it out.")
    if request.choose == ONE_SE and request.search_seeds < 2:
        raise Mistake(
            f"--choose {ONE_SE} needs the spread over seeds: add --search-seeds 3, or another number above 1."
        )
    if request.choose != BEST and request.halving:
        raise Mistake(
            f"--choose {request.choose} compares what was tried, and --halving trains little of it to the "
            "end: leave one of them out."
        )
    for study in studies:
        if request.search and request.lambda_trials and study.trials < request.lambda_trials:
            raise Mistake(
                f"--lambda-trials {request.lambda_trials} cannot be had: with --search every method has as "
                f"many trials, and the lists of one have {study.trials} combinations; lengthen them, or "
                "leave it out."
            )
        if request.choose != BEST and len(study.dimensions) != 1:
            names = ", ".join(name for name, _ in study.dimensions)
            raise Mistake(
                f"--choose {request.choose} orders what was tried by one number, and the study of "
                f"{study.method} searches {names}: leave it out."
            )
        if request.choose != BEST and isinstance(study.dimensions[0][1], Choices):
            raise Mistake(
                f"--choose {request.choose} orders what was tried by its size, which "
                f"{study.dimensions[0][0]} has not: leave it out."
            )


def image_sets(request: Request) -> tuple[NamedImages, ...]:
    """Return the image sets that are asked for; raise Mistake for what cannot be."""
    return named_sets(request.ood, request.ood_resize, request.crops_per_image, request.ood_seed)


def read_plugins(request: Request) -> tuple[Plugin, ...]:
    """Return the plug-ins that are asked for; raise Mistake for one that cannot be read or is named twice."""
    found = tuple(read_plugin(path) for path in request.plugins)
    _unique("--plugin", tuple(plugin.file for plugin in found))
    return found


def check_detectors(names: tuple[str, ...]) -> None:
    """Raise Mistake for a detector that does not exist or is named twice."""
    for name in _unique("--detectors", names):
        if name not in DETECTORS.names:
            raise unknown("detector", name, DETECTORS.names)


def known_fields() -> list[str]:
    """Return the names of the fields that --set knows, but for lambda.<task>."""
    return [name for cls in (Recipe, RunSettings, Specification) for name in valid_of(cls)]


def _check_known(names: dict[str, str]) -> None:
    """Raise Mistake for a field that --set does not know."""
    known = known_fields()
    for name in names:
        if name not in known:
            raise unknown("field", name, sorted([*known, "lambda.<task>"]))


def _assigned(instance: T, fields: dict[str, str]) -> T:
    """Return a data class with those of the fields set that are its own."""
    own = valid_of(type(instance))
    return assign(instance, {name: text for name, text in fields.items() if name in own})


def _recipe(
    benchmark: Benchmark,
    workers: int,
    methods: tuple[str, ...],
    fields: dict[str, str],
    searched: Collection[str] = (),
) -> Recipe:
    """Return the recipe that --set leaves of the benchmark's, as it is where fields are `searched`."""
    recipe = benchmark.recipe_for(methods)
    if benchmark.total_batch and workers > 1:
        recipe = _shared(recipe, benchmark.total_batch, workers, benchmark.tasks(methods))
    if "fidelity" in fields:
        checked = assign(recipe, {"fidelity": fields["fidelity"]})
        recipe = with_fidelity(recipe, checked.fidelity)
        if checked.fidelity == "reference":
            recipe = dataclasses.replace(recipe, **benchmark.reference_for(methods))  # type: ignore[arg-type]
    other_batch = "batch_size" in fields or "batch_size" in searched
    if other_batch and "micro_batch" not in fields and recipe.micro_batch:
        recipe = dataclasses.replace(recipe, micro_batch=0)
    return _assigned(recipe, {name: text for name, text in fields.items() if name != "fidelity"})


def _shared(recipe: Recipe, total_batch: int, workers: int, tasks: tuple[str, ...]) -> Recipe:
    """Return the recipe with each worker's share of the paper's total batch.

    Every built-in task's fields are shared, trained or not: all fields enter the keys of cells.
    """
    share = max(2, total_batch // workers)
    divides = recipe.micro_batch and share > recipe.micro_batch and share % recipe.micro_batch == 0
    recipe = dataclasses.replace(recipe, batch_size=share, micro_batch=recipe.micro_batch if divides else 0)
    for task in dict.fromkeys((*TASKS.built_in, *tasks)):
        recipe = find_task(task, recipe).shared(recipe, workers)
    return recipe


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


def _check_trials(request: Request, spaces: dict[str, Weighing]) -> None:
    """Raise Mistake if a number of lambdas to try was given and would change nothing."""
    if request.search:
        return
    if request.aux_weight:
        raise Mistake("--lambda-trials has no use beside --aux-weight: lambda is given, so none is searched.")
    if spaces and all(isinstance(space, Grid) for space in spaces.values()):
        listed = "; ".join(f"{task} in {space}" for task, space in sorted(spaces.items()))
        raise Mistake(
            f"--lambda-trials has no use here: lists are tried whole ({listed}); shorten one with "
            "--set lambda.<task>=a,b."
        )


def _weights(words: tuple[str, ...], tasks: list[str]) -> Weights | None:
    """Return weights by task from words such as 0.5 (every task's) or task=0.5; None for no words."""
    if not words:
        return None
    if not tasks:
        raise Mistake(
            "--aux-weight has no use: no method of this sweep trains an auxiliary task; leave it out."
        )
    weights: Weights = {}
    for word in words:
        if "," in word:
            apart = word.replace(",", " ")
            raise Mistake(f"--aux-weight {word} has a comma: separate with spaces: --aux-weight {apart}.")
        task, equals, number = word.rpartition("=")
        if equals and task not in tasks:
            raise Mistake(
                f"--aux-weight {word} names no task of this sweep's methods; they train: {', '.join(tasks)}."
            )
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise Mistake(
                f"--aux-weight {word} is not valid: give a finite number of at least 0, or task=number."
            )
        weights.update(dict.fromkeys([task] if equals else tasks, value))
    missing = [task for task in tasks if task not in weights]
    if missing:
        raise Mistake(f"--aux-weight gives no weight for {missing[0]}: add {missing[0]}=NUMBER.")
    return weights

"""The commands that a person is told to give next."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from orchestrator.ledger.interpreter import python
from orchestrator.ledger.passwords import hinted, masked
from orchestrator.planning.cells import Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.request import WHAT, Request
from orchestrator.planning.specification import Specification, StoredSweep
from search_spaces import find_benchmark
from trainables.data.named_images import NamedImages
from trainables.data.readers.reader import module_reader
from trainables.recipe import Recipe
from trainables.settings import valid_of
from trainables.spaces import spelt

IMAGE_SETS = {"ood", "ood_resize", "crops_per_image", "ood_seed"}
RUN_ONCE = {"name", "resume", "accept_versions", "dry_run", "probe", "write_config", "given"}
ASIDE = WHAT | IMAGE_SETS | RUN_ONCE | {"detectors", "data", "download"}
"""Fields of a request that the command that resumes it does not repeat: the ledger knows them."""

OF_THE_DATA = ("sweep_seed", "skip_bad_images")
"""Fields of the specification that decide which images a final cell is trained on, and in which order."""

OPTIONS = {"plugins": "--plugin", "assignments": "--set"}
"""Options that are not called like their field."""


def sweep_command(request: Request) -> str:
    """Return the whole command of a request, with what is not a default."""
    return _command("sweep", [request.benchmark, *_options(request, RUN_ONCE - {"name"} | {"benchmark"})])


def resume_command(request: Request, name: str) -> str:
    """Return the command that goes on with a sweep, where and how the request ran it."""
    return _command("sweep", ["--resume", "--name", name, *_options(request, ASIDE)])


def _options(request: Request, aside: Collection[str]) -> list[str]:
    """Return the options of a request that are not at their default, but for some fields."""
    defaults, words = Request(), []
    for field, value in vars(request).items():
        if field not in aside and value not in (getattr(defaults, field), ""):
            words.append(OPTIONS.get(field, f"--{field.replace('_', '-')}"))
            values = value if isinstance(value, tuple) else (value,)
            if value is not True:
                words += [f"{each:g}" if isinstance(each, float) else str(each) for each in values]
    return words


def score_command(request: Request, name: str, detectors: Iterable[str]) -> str:
    """Return the command that adds detectors to a sweep's finished cells."""
    words = [name, "--detectors", *detectors, *_places(request)]
    return _command("score", words)


def score_sets_command(request: Request, name: str, image_set: NamedImages) -> str:
    """Return the command that adds an image set to a sweep's finished cells."""
    words = [name, "--ood", f"{image_set.name}={image_set.path}"]
    words += ["--ood-resize", image_set.resize] if image_set.resize else []
    if image_set.crops_per_image != 1:
        words += ["--crops-per-image", str(image_set.crops_per_image)]
    words += ["--ood-seed", str(image_set.seed)] if image_set.seed else []
    return _command("score", [*words, *_places(request)])


def rebuild_command(request: Request, name: str) -> str:
    """Return the command that writes a sweep's report, and its records in MLflow, again."""
    words = [name, "--rebuild-tracking", *_places(request)]
    return _command("report", words)


def keep_weights_command(cell: Cell, stored: StoredSweep, found: Hyperparameters, name: str) -> str:
    """Return the command that trains a final cell again, with the values that were found, in another sweep.

    That sweep keeps the weights, as sweeps do unless they are told otherwise.
    """
    wanted = stored.specification
    benchmark = find_benchmark(wanted.benchmark)
    words = [wanted.benchmark, "--methods", cell.method, "--holdouts", cell.holdout]
    words += ["--seeds", str(cell.seed + 1), "--name", f"{name}-kept"]
    if found.aux_weights:
        words += ["--aux-weight", *(f"{task}={spelt(value)}" for task, value in found.aux_weights.items())]
    if stored.data and not (isinstance(benchmark.reader, str) and module_reader(benchmark.reader).embedded):
        words += ["--data", stored.data]
    words += ["--groups", wanted.grouped_by] if wanted.grouped_by else []
    words += ["--plugin", *stored.plugins] if stored.plugins else []
    words += ["--workers", str(wanted.workers)] if wanted.workers > 1 else []
    words += ["--cpus-per-worker", str(wanted.threads)] if wanted.threads > 1 else []
    changed = _changed(found.of_recipe(wanted.recipe), benchmark.recipe_for((cell.method,)), wanted)
    words += ["--set", *changed] if changed else []
    return _command("sweep", words)


def _changed(recipe: Recipe, usual: Recipe, wanted: Specification) -> list[str]:
    """Return the words of --set by which a sweep has this recipe, and this specification's seed and images.

    Some fields follow from others unless they are said, too: from the batch, the fidelity and the workers.
    """
    changed = {name for name in valid_of(Recipe) if getattr(recipe, name) != getattr(usual, name)}
    if changed & {"batch_size", "fidelity"} or wanted.workers > 1:
        changed = set(valid_of(Recipe))
    found = {name: getattr(recipe, name) for name in valid_of(Recipe) if name in changed}
    defaults = {field: Specification.__dataclass_fields__[field].default for field in OF_THE_DATA}
    found |= {n: getattr(wanted, n) for n, default in defaults.items() if getattr(wanted, n) != default}
    return [f"{name}={spelt(value)}" for name, value in found.items()]


def _command(name: str, words: Iterable[str]) -> str:
    """Return a command of this project as a shell takes it, without the passwords in its addresses."""
    return hinted(shlex.join(map(masked, [python(), "-m", f"orchestrator.{name}", *words])))


def verify_command(request: Request, name: str) -> str:
    """Return the command that says what is wrong with a sweep's cells, and what mends it."""
    return _command("verify", [name, *_places(request)])


def ui_command(request: Request, name: str) -> str:
    """Return the command that shows a sweep in MLflow's pages."""
    return _command("ui", [name, *_places(request)])


def repair_command(request: Request, name: str) -> str:
    """Return the command that moves aside what is damaged, so that it is made again."""
    return _command("verify", [name, "--repair", *_places(request)])


def _places(request: Request) -> list[str]:
    """Return the options that say where the ledger and MLflow's records are, unless they are the defaults."""
    words = ["--storage", request.storage] if request.storage != Request().storage else []
    return words + (["--tracking-uri", request.tracking_uri] if request.tracking_uri else [])

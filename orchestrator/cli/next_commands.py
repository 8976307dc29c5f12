"""The commands that a person is told to give next."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from orchestrator.ledger.passwords import hinted, masked
from orchestrator.planning.request import WHAT, Request
from trainables.data.named_images import NamedImages

IMAGE_SETS = {"ood", "ood_resize", "crops_per_image", "ood_seed"}
RUN_ONCE = {"name", "resume", "accept_versions", "dry_run", "given"}
ASIDE = WHAT | IMAGE_SETS | RUN_ONCE | {"detectors", "data", "download"}
"""Fields of a request that the command that resumes it does not repeat: the ledger knows them."""

OPTIONS = {"plugins": "--plugin", "assignments": "--set"}
"""Options that are not called like their field."""


def resume_command(request: Request, name: str) -> str:
    """Return the command that goes on with a sweep, where and how the request ran it."""
    words = _options(request, ASIDE)
    return _command(["python", "-m", "orchestrator.sweep", "--resume", "--name", name, *words])


def sweep_command(request: Request) -> str:
    """Return the command that asks for what a request asks for."""
    words = _options(request, RUN_ONCE | {"benchmark"})
    return _command(["python", "-m", "orchestrator.sweep", request.benchmark, *words])


def _options(request: Request, aside: Collection[str]) -> list[str]:
    """Return the options of a request's fields, except those that are put aside or at their defaults."""
    defaults, words = Request(), []
    for field, value in vars(request).items():
        if field not in aside and value not in (getattr(defaults, field), ""):
            option = OPTIONS.get(field, f"--{field.replace('_', '-')}")
            values = value if isinstance(value, tuple) else (value,)
            words += [option, *(f"{each:g}" if isinstance(each, float) else str(each) for each in values)]
    return words


def score_command(request: Request, name: str, detectors: Iterable[str]) -> str:
    """Return the command that adds detectors to a sweep's finished cells."""
    words = [name, "--detectors", *detectors, *_places(request)]
    return _command(["python", "-m", "orchestrator.score", *words])


def score_sets_command(request: Request, name: str, image_set: NamedImages) -> str:
    """Return the command that adds an image set to a sweep's finished cells."""
    words = [name, "--ood", f"{image_set.name}={image_set.path}"]
    words += ["--ood-resize", image_set.resize] if image_set.resize else []
    if image_set.crops_per_image != 1:
        words += ["--crops-per-image", str(image_set.crops_per_image)]
    words += ["--ood-seed", str(image_set.seed)] if image_set.seed else []
    return _command(["python", "-m", "orchestrator.score", *words, *_places(request)])


def rebuild_command(request: Request, name: str) -> str:
    """Return the command that writes a sweep's report, and its records in MLflow, again."""
    words = [name, "--rebuild-tracking", *_places(request)]
    return _command(["python", "-m", "orchestrator.report", *words])


def _command(words: Iterable[str]) -> str:
    """Return a command line as a shell takes it, without the passwords in its addresses."""
    return hinted(shlex.join(map(masked, words)))


def verify_command(request: Request, name: str) -> str:
    """Return the command that says what is wrong with a sweep's cells, and what mends it."""
    return _command(["python", "-m", "orchestrator.verify", name, *_places(request)])


def ui_command(request: Request, name: str) -> str:
    """Return the command that shows a sweep in MLflow's pages."""
    return _command(["python", "-m", "orchestrator.ui", name, *_places(request)])


def repair_command(request: Request, name: str) -> str:
    """Return the command that moves aside what is damaged, so that it is made again."""
    return _command(["python", "-m", "orchestrator.verify", name, "--repair", *_places(request)])


def _places(request: Request) -> list[str]:
    """Return the options that say where the ledger and MLflow's records are, unless they are the defaults."""
    words = ["--storage", request.storage] if request.storage != Request().storage else []
    return words + (["--tracking-uri", request.tracking_uri] if request.tracking_uri else [])

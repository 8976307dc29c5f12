"""The commands that a person is told to give next."""

from __future__ import annotations

import shlex

from orchestrator.planning.request import WHAT, Request

ASIDE = WHAT | {"detectors", "data", "download", "name", "resume", "dry_run", "given"}
"""Fields of a request that the command that resumes it does not repeat: the ledger knows them."""

OPTIONS = {"plugins": "--plugin"}
"""Options that are not called like their field."""


def resume_command(request: Request, name: str) -> str:
    """Return the command that goes on with a sweep, where and how the request ran it."""
    defaults, words = Request(), []
    for field, value in vars(request).items():
        if field not in ASIDE and value not in (getattr(defaults, field), ""):
            option = OPTIONS.get(field, f"--{field.replace('_', '-')}")
            values = value if isinstance(value, tuple) else (value,)
            words += [option, *(f"{each:g}" if isinstance(each, float) else str(each) for each in values)]
    return shlex.join(["python", "-m", "orchestrator.sweep", "--resume", "--name", name, *words])


def rebuild_command(request: Request, name: str) -> str:
    """Return the command that writes a sweep's report, and its records in MLflow, again."""
    words = ["--storage", request.storage] if request.storage != Request().storage else []
    words += ["--tracking-uri", request.tracking_uri] if request.tracking_uri else []
    return shlex.join(["python", "-m", "orchestrator.report", name, "--rebuild-tracking", *words])

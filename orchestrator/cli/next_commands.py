"""The commands that a person is told to give next."""

from __future__ import annotations

import shlex

from orchestrator.cli.sweep_options import DEFAULT_STORAGE, Options


def resume_command(options: Options, name: str) -> str:
    """Goes on with a sweep, where and how it ran."""
    return _resume(name, [*_place(options.storage, options.tracking_uri), *_manner(options)])


def resume_from(name: str, storage: str, tracking_uri: str | None = None) -> str:
    """Goes on with a sweep of which no more is known than where it is."""
    return _resume(name, _place(storage, tracking_uri))


def rebuild_command(options: Options, name: str) -> str:
    """Writes a sweep's report, and its records into MLflow, again."""
    place = _place(options.storage, options.tracking_uri)
    return shlex.join(["python", "-m", "orchestrator.report", name, "--rebuild-tracking", *place])


def _resume(name: str, more: list[str]) -> str:
    return shlex.join(["python", "-m", "orchestrator.sweep", "--resume", "--name", name, *more])


def _place(storage: str, tracking_uri: str | None) -> list[str]:
    """The words that say where the sweep and its records stand, where not in the default places."""
    words = ["--storage", storage] if storage != DEFAULT_STORAGE else []
    return words + (["--tracking-uri", tracking_uri] if tracking_uri else [])


def _manner(options: Options) -> list[str]:
    """The words that say how cells run, where they are not the defaults."""
    given = {
        "--executor": "inline" if options.executor == "inline" else None,
        "--address": options.address,
        "--gpus-per-worker": None if options.gpus_per_worker is None else f"{options.gpus_per_worker:g}",
        "--cpus-per-worker": None if options.cpus_per_worker == 1 else f"{options.cpus_per_worker:g}",
        "--max-concurrent": str(options.max_concurrent or "") or None,
        "--cache": options.cache or None,
    }
    return [word for name, value in given.items() if value is not None for word in (name, value)]

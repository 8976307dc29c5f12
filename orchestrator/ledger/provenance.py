"""Where a sweep's results come from: versions, commit, machine."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PROJECT = "holdout-sweeps"
FIRST_VERSION = "0.1.0"
"""The version of the project that did not write its own down."""
PACKAGES = (PROJECT, "torch", "torchvision", "ray", "optuna", "mlflow", "pyarrow", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Made:
    """What a sweep was begun with, or went on with."""

    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    """By package, "python" among them."""
    git_commit: str | None = None
    """This project's."""
    machine: str | None = None
    """The kind of the driver's processor, such as x86_64."""

    def version(self, package: str) -> str | None:
        """Return a package's version; None if it is not known."""
        return self.versions.get(package, FIRST_VERSION if package == PROJECT and self.versions else None)


def provenance() -> Made:
    """Return the versions of Python and of the packages that matter, and this project's commit."""
    return Made(_versions(), _commit(), platform.machine())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Return the checkout's commit, with "-dirty" if files differ from it; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parents[2]), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

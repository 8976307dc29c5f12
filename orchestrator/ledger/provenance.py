"""Where a sweep's results come from: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "pyarrow", "numpy", "scikit-learn")


def provenance() -> dict[str, object]:
    """Return the versions of Python and of the packages that matter, and this project's commit."""
    return {"versions": _versions(), "git_commit": _commit(), "machine": platform.machine()}


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

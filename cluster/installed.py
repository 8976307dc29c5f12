"""Says whether this Python has the project and every package that it needs, as constraints.txt pins them.

    python cluster/installed.py

Exit code 0 if it has, else 1, and what is missing or differs is printed. A Python before 3.11 ends with 1
too. Nothing but Python's own library is needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("orchestrator", "search_spaces", "trainables")
FIND_PACKAGES = """
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    spec = find_spec(name)
    print(spec and spec.origin or "")
"""


def main() -> int:
    """Print what is missing or differs, and return the exit code."""
    wrong = [*_missing(), *_other_versions(), *_elsewhere()]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _missing() -> list[str]:
    """Return which packages that the project requires, with its cluster extra, are not installed."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements}
    return [f"{name} is not installed" for name in sorted(names) if _version(name) is None]


def _other_versions() -> list[str]:
    """Return which packages have another version than the pinned one, with which the tests ran."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    installed = [(name, _version(name), pinned) for name, pinned in pins]
    return [
        f"{name} is {version}, pinned: {pinned}"
        for name, version, pinned in installed
        if version not in (None, pinned)
    ]


def _elsewhere() -> list[str]:
    """Return which of the project's packages this Python finds elsewhere, or not at all, from another folder.

    They may be installed, or found through PYTHONPATH.
    """
    find = [sys.executable, "-P", "-c", FIND_PACKAGES, *PACKAGES]
    found = subprocess.run(find, cwd="/", capture_output=True, text=True, check=True).stdout.splitlines()
    if not any(found):
        return [f"holdout-sweeps, the project in {PROJECT}, is not installed"]
    folders = [Path(origin).resolve().parent if origin else None for origin in found]
    return [
        f"{name} is {folder or 'missing'}, and the project's is {PROJECT / name}"
        for name, folder in zip(PACKAGES, folders, strict=True)
        if folder != PROJECT / name
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())

"""Whether this Python has the project and all it needs, as constraints.txt pins it; says what differs.

    python cluster/installed.py

Exit code 0 where it has, else 1, which any Python before 3.11 gives too. It needs nothing but Python's own
library.
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
LOOK = """
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    spec = find_spec(name)
    print(spec and spec.origin or "")
"""


def main() -> int:
    """Prints what is missing or of another version."""
    wrong = [*_missing(), *_other_versions(), *_elsewhere()]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _missing() -> list[str]:
    """What the project asks for itself, with its cluster extra, and is not there."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in asked}
    return [f"{name} is not installed" for name in sorted(names) if _version(name) is None]


def _other_versions() -> list[str]:
    """What is there at another version than the one that the tests ran with."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    have = [(name, _version(name), pinned) for name, pinned in pins]
    return [f"{n} is {found}, pinned: {pinned}" for n, found, pinned in have if found not in (None, pinned)]


def _elsewhere() -> list[str]:
    """The project's packages that a process of this Python, started in another folder, does not find here.

    They may be installed, or found through PYTHONPATH.
    """
    look = [sys.executable, "-P", "-c", LOOK, *PACKAGES]
    found = subprocess.run(look, cwd="/", capture_output=True, text=True, check=True).stdout.splitlines()
    if not any(found):
        return [f"holdout-sweeps, the project in {PROJECT}, is not installed"]
    homes = [Path(place).resolve().parent if place else None for place in found]
    return [
        f"{name} is {home or 'missing'}, and the project's is {PROJECT / name}"
        for name, home in zip(PACKAGES, homes, strict=True)
        if home != PROJECT / name
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())

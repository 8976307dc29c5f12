"""cluster/installed.py: whether a machine's Python has the project, wherever its packages come from."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.sweeps import ROOT

CHECK = ROOT / "cluster" / "installed.py"


def check(python: Path | str, script: Path = CHECK, folder: Path = ROOT, **environment: str) -> list[str]:
    """Return what a Python, asked in a folder, lacks of the project itself; it exits with 1 if anything."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, script], cwd=folder, env={**plain, **environment}, capture_output=True, text=True
    )
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert done.returncode == bool(said)
    return [line for line in said if "project" in line]


@pytest.fixture
def dependencies_only(tmp_path: Path) -> Path:
    """A Python that has every package of this one but the project, as after an interrupted pip."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    # A folder named in a .pth file is searched for packages, but not for .pth files such as the project's.
    packages = [place for place in sys.path if place.endswith("-packages")]
    Path(there, "packages.pth").write_text("\n".join(packages))
    return python


def test_packages_without_the_project_are_not_enough(dependencies_only: Path) -> None:
    (said,) = check(dependencies_only)
    assert said == f"holdout-sweeps, the project in {ROOT}, is not installed"


def test_a_path_that_means_something_in_the_project_s_folder_only_is_not_enough(
    dependencies_only: Path,
) -> None:
    assert check(dependencies_only, PYTHONPATH=".") != []


def test_the_project_may_be_found_through_the_path(dependencies_only: Path, tmp_path: Path) -> None:
    assert check(dependencies_only, folder=tmp_path, PYTHONPATH=str(ROOT)) == []


def test_another_copy_of_the_project_is_told_from_this_one(dependencies_only: Path, tmp_path: Path) -> None:
    for name in ("orchestrator", "search_spaces"):
        (tmp_path / "copy" / name).mkdir(parents=True)
        (tmp_path / "copy" / name / "__init__.py").write_text("")
    said = check(dependencies_only, PYTHONPATH=str(tmp_path / "copy"))
    copy = tmp_path / "copy" / "orchestrator"
    assert said[0] == f"orchestrator is {copy}, and the project's is {ROOT / 'orchestrator'}"
    assert said[2] == f"trainables is missing, and the project's is {ROOT / 'trainables'}"
    assert len(said) == 3
    assert check(dependencies_only, PYTHONPATH=f"{ROOT}:{tmp_path / 'copy'}") == []

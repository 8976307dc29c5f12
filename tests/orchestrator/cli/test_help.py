"""Every command's --help, word for word, as help/<command>.txt and docs/commands.md hold it.

After a change that is meant, `python -m tests.orchestrator.cli.test_help` writes the files and the page
again, and the change to them is reviewed with the rest. Only the words are compared: argparse breaks lines
and sets columns differently from one version of Python to the next, so any run of spaces and line breaks
counts as one space, and none after a hyphen, where it breaks words.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import PROGRAM, commands
from tests.conftest import OF_A_PERSON
from tests.sweeps import ROOT

FOLDER = Path(__file__).parent / "help"
PAGE = ROOT / "docs" / "commands.md"
RENEW = "python -m tests.orchestrator.cli.test_help"
HEAVY = ("torch", "ray", "mlflow", "optuna", "matplotlib", "pandas")
"""What takes a second or more to import, and no --help needs."""
CPU_SECONDS = 2.0
BLOCK = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in HEAVY)
RUN = f"{BLOCK}from orchestrator.cli.main import main\nsys.exit(main())"

NAMES = [PROGRAM, *commands()]

BEGINNING = f"""\
# The commands

`{PROGRAM} COMMAND` and `python -m orchestrator.COMMAND` are the same. NAME is a sweep's name: a sweep prints
it when it begins, and `python -m orchestrator.status` lists all of them. This page holds what each command's
`--help` prints; on the head of a cluster, some defaults are others ([cluster.md](cluster.md)).
"""


@functools.cache
def help_of(name: str) -> tuple[str, float]:
    """Returns what --help prints where nothing heavy can be imported, and the seconds of CPU that it took."""
    words = ["--help"] if name == PROGRAM else [name, "--help"]
    environment = {key: value for key, value in os.environ.items() if key not in OF_A_PERSON}
    environment |= {"COLUMNS": "110", "PYTHON_COLORS": "0", "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds


def words_of(text: str) -> list[str]:
    return re.sub(r"-\s+", "-", text).split()


@pytest.mark.parametrize("name", NAMES)
def test_the_help_reads_as_it_is_kept(name: str) -> None:
    kept = FOLDER / f"{name}.txt"
    expected = words_of(kept.read_text()) if kept.exists() else []
    differs = f"{name} --help is not what {kept.relative_to(ROOT)} holds; if that is meant, run: {RENEW}"
    assert words_of(help_of(name)[0]) == expected, differs


def test_what_is_kept_is_the_help_of_a_command() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES), f"write the files again: {RENEW}"


def test_the_page_holds_the_help() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write {PAGE.relative_to(ROOT)} again: {RENEW}"


@pytest.mark.parametrize("name", NAMES)
def test_the_help_waits_for_nothing_heavy(name: str) -> None:
    assert help_of(name)[1] < CPU_SECONDS


def page() -> str:
    """The text of docs/commands.md, from the files that hold the help."""
    purposes = {PROGRAM: "All commands, a line each.", **commands()}
    helps = {name: (FOLDER / f"{name}.txt").read_text().strip() for name in purposes}
    sections = [f"## {name}\n\n{what}\n\n```text\n{helps[name]}\n```\n" for name, what in purposes.items()]
    return "\n".join([BEGINNING, *sections])


def renew() -> None:
    """Writes every command's --help into its file and the page; removes files of commands that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        if path.stem not in NAMES:
            path.unlink()
    for name in NAMES:
        (FOLDER / f"{name}.txt").write_text(help_of(name)[0])
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    renew()

"""holdout-sweeps COMMAND is python -m orchestrator.COMMAND, and lists the commands without importing them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli.main import commands, main
from tests.sweeps import ROOT

PLAN = ["--holdouts", "3", "--seeds", "1", "--dry-run"]
HEAVY = ("torch", "ray", "mlflow", "optuna", "matplotlib", "sklearn", "pyarrow", "numpy")


def script(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the entry point as the installed script does, from another folder than the project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["holdout-sweeps"].split(":")
    code = f"import sys\n{before}\nfrom {module} import {function}\nsys.exit({function}())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    line = [sys.executable, "-c", code, *words]
    return subprocess.run(line, cwd="/", env=environment, capture_output=True, text=True)


def as_module(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"orchestrator.{command}", *words]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder_of_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which modules of the package are looked for, too."""
    monkeypatch.setattr(orchestrator, "__path__", [str(tmp_path), *orchestrator.__path__])
    yield tmp_path
    sys.modules.pop("orchestrator.fresh", None)


def test_the_commands_are_listed_with_the_first_sentence_of_their_docstrings() -> None:
    found = commands()
    assert {"sweep", "report", "baseline", "doctor"} <= found.keys()
    for sentence in found.values():
        assert sentence[0].isupper() or not sentence[0].isalpha()
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert "`python" not in sentence


def test_a_package_is_no_command() -> None:
    assert not {"cli", "planning", "ledger"} & commands().keys()


@pytest.mark.parametrize(("command", "words"), [("sweep", PLAN), ("report", ["--help"])])
def test_the_script_is_the_module(command: str, words: list[str]) -> None:
    done, expected = script(command, *words), as_module(command, *words)
    assert done.stdout == expected.stdout != ""
    assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr) == (0, "")


def test_the_script_ends_with_the_command_s_exit_code_and_error() -> None:
    words = ("sweep", "digist", "--dry-run")
    done = script(*words)
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == ("", as_module(*words).stderr)
    assert "digist" in done.stderr


def test_main_takes_its_words_and_returns_the_command_s_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *PLAN]) == 0
    assert "cells" in capsys.readouterr().out


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in HEAVY)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = script("--help", before=blocked)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    for name, sentence in commands().items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {name} ")]
        assert line.split(maxsplit=1)[1].split() == sentence.split()[: len(line.split()) - 1]
    assert script("-h").stdout == done.stdout


def test_help_keeps_to_the_terminal_s_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = lines[lines.index("commands:") + 1 : -2]
    assert len(listed) > len(commands())
    assert max(map(len, listed)) <= 38


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swep"], "Did you mean 'sweep'?"),
        (["cli"], "There is no command 'cli'; valid: "),
        (["--holdouts", "3"], "There is no command '--holdouts'"),
        ([], "No command was given; valid: "),
    ],
)
def test_what_is_no_command_is_a_mistake(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("Error: ")
    assert said in line
    assert ", ".join(commands()) in line


def test_a_new_module_with_a_main_is_a_command(
    folder_of_commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = '"""`python -m orchestrator.fresh`: counts words,\nall of them. More.\n"""\n'
    new += "def main(words):\n    print(words)\n    return len(words)\n"
    (folder_of_commands / "fresh.py").write_text(new)
    (folder_of_commands / "no_command.py").write_text("raise RuntimeError('imported')\n")
    found = commands()
    assert found["fresh"] == "Counts words, all of them."
    assert "no_command" not in found
    assert main(["fresh", "one", "two"]) == 2
    assert capsys.readouterr().out == "['one', 'two']\n"

"""Whatever is asked wrongly, or found damaged, gets one sentence; nothing is written, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

World = Path
"""A folder with the storage runs/, in which one small sweep, `done`, is complete."""


@dataclass(frozen=True)
class Case:
    """A command that must be refused, what the sentence must say, and what was spoilt before."""

    command: str
    """Words separated by blanks, the command first; {here} is the world's folder."""
    said: str
    spoil: Callable[[World], None] | None = None
    code: int = 2

    def __str__(self) -> str:
        spoilt = f" after {self.spoil.__name__}" if self.spoil else ""
        return f"{self.command[:70]}{spoilt}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = tmp_path_factory.mktemp("world")
    words = "--methods classification --holdouts 3 --seeds 1 --set epochs=1 --executor inline --name done"
    place = ["--storage", str(world / "runs"), "--tracking-uri", f"sqlite:///{world}/records.db"]
    assert import_module("orchestrator.sweep").main([*words.split(), *place]) == 0
    return world


@pytest.fixture
def world(finished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    here = tmp_path / "here"
    shutil.copytree(finished, here)
    monkeypatch.chdir(here)
    return here


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def refusal(capsys: pytest.CaptureFixture[str], world: World, case: Case) -> str:
    """Run a case's command; return what it printed, having checked that it refused and changed nothing."""
    if case.spoil is not None:
        case.spoil(world)
    before = content(world)
    capsys.readouterr()
    command, *words = (word.replace("{here}", str(world)) for word in case.command.split(" "))
    assert import_module(f"orchestrator.{command}").main(words) == case.code
    assert content(world) == before
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("Error: ")
    return line


TYPED = [
    Case("report ../done", "NAME '../done' is no plain word"),
    Case("report done/../done", "NAME 'done/../done' is no plain word"),
    Case("report ..", "NAME '..' is no plain word"),
    Case("report /etc", "NAME '/etc' is no plain word"),
    Case("report dóne", "NAME 'dóne' is no plain word"),
    Case("score ../done --detectors energy", "NAME '../done' is no plain word"),
    Case("report done --storage ", "--storage was given '', which is empty"),
    Case("sweep --storage= --executor inline", "--storage was given '', which is empty"),
    Case("sweep --data ", "--data was given '', which is empty"),
    Case("sweep --tracking-uri ", "--tracking-uri was given '', which is empty"),
    Case("baseline pixel-gaussian --cache=", "--cache was given '', which is empty"),
    Case("doctor --storage=", "--storage was given '', which is empty"),
]


@pytest.mark.parametrize("case", TYPED, ids=str)
def test_what_is_typed(capsys: pytest.CaptureFixture[str], world: World, case: Case) -> None:
    assert case.said in refusal(capsys, world, case)

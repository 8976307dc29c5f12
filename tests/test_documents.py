"""The documents: every block of commands or code runs, or is read by the parsers that would read it.

A block of Python is run, here or by the test of its page. In a block of shell every sweep, baseline and table
of the paper is planned as by --dry-run, and every other command of ours is read by its own parser; make's
targets, Ray's options and files must exist. What no test can run, such as a command of AWS, stands below a
comment: <!-- not run: the reason -->. Commands, options and paths in sentences are checked, too.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import shlex
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orchestrator.cli.main import PROGRAM, commands
from search_spaces import all_benchmarks
from tests.orchestrator.cli.test_help import FOLDER as HELP
from tests.sweeps import ROOT

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
REASON = re.compile(r"<!-- not run: (.+?) -->\s*$")
LANGUAGES = ("sh", "python", "json", "text")
PLANNED = ("sweep", "baseline", "reproduce")
"""Commands that can say what they would do."""
BUILT_IN = ("export", "cd", ".")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    text: str
    reason: str
    """Why it is not run; "" if it is."""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@functools.cache
def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks_of(document: Path) -> Iterator[Block]:
    text = text_of(document)
    for found in BLOCK.finditer(text):
        indent, language, body = found.groups()
        body = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        reason = REASON.search(text[: found.start()])
        name = str(document.relative_to(ROOT))
        yield Block(name, text.count("\n", 0, found.start()) + 1, language, body, reason[1] if reason else "")


def blocks(*languages: str) -> list[Block]:
    every = [block for document in DOCUMENTS for block in blocks_of(document)]
    return [block for block in every if block.language in languages]


def prose(document: Path) -> str:
    """A document without its blocks."""
    return BLOCK.sub("", text_of(document))


def inline(document: Path) -> list[str]:
    """What stands in backquotes in a document's sentences."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(document))]


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each simple command of a piece of shell, without what its output is written to."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>")
        lexer.whitespace_split = True
        words: list[str] = []
        tokens = list(lexer)
        while tokens:
            token = tokens.pop(0)
            if token == ">":
                tokens.pop(0)
            elif set(token) <= set(";&|"):
                yield words
                words = []
            else:
                words.append(token)
        if words:
            yield words


# Blocks


def test_every_block_names_its_language_and_is_closed() -> None:
    for document in DOCUMENTS:
        found = list(blocks_of(document))
        assert text_of(document).count("```") == 2 * len(found), document
        assert [str(block) for block in found if block.language not in LANGUAGES] == []


def test_commands_do_not_hide_in_blocks_of_text() -> None:
    """A usage begins with usage:, a command that is to be typed belongs in a block of shell."""
    programs = ("python", ".venv/bin/python", PROGRAM, "make", "ray", "aws", "pip")
    hidden = [
        f"{block}: {line}"
        for block in blocks("text")
        for line in block.text.splitlines()
        if line.split()[:1] and line.split()[0] in programs and "COMMAND" not in line
    ]
    assert hidden == []


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import test_extending, test_reading_results

    run_by_their_tests = {
        "docs/extending.md": [text for _, text in test_extending.FILES],
        "docs/reading-results.md": test_reading_results.BLOCKS,
    }
    if block.document in run_by_their_tests:
        assert block.text in run_by_their_tests[block.document]
        return
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {})


# Commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder with the files that the documents' commands name."""
    from tests.plugins import forget
    from tests.test_extending import FILES

    forget(monkeypatch)
    for name, text in FILES:
        (tmp_path / name).write_text(text, encoding="utf-8")
    for kind in ("cat", "dog", "rabbit"):
        (tmp_path / "my_images" / kind).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (8, 8), (number, 0, 0))
            image.save(tmp_path / "my_images" / kind / f"patient{number}_1.png")
    for name in ("Imagenet_resize", "LSUN"):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "my_images" / "cat", name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@functools.cache
def readers() -> dict[str, Callable[[list[str]], Any]]:
    """What reads the words of the commands that have no --dry-run."""
    from orchestrator import doctor, report
    from orchestrator.cli import predict_options, score_options, status_options, ui_options, verify_options

    options = (predict_options, score_options, status_options, ui_options, verify_options)
    found = {module.__name__.rpartition(".")[2].split("_")[0]: module.read_request for module in options}
    return {**found, "report": report._parser().parse_args, "doctor": doctor._parser().parse_args}


def check_ours(name: str, words: list[str]) -> None:
    """Plan, or read, what a command of ours is asked for."""
    if words == ["--help"]:
        assert name in commands()
    elif name not in PLANNED:
        readers()[name](words)
    elif "--resume" in words:
        from orchestrator.cli.sweep_options import read_request

        assert read_request(words).goes_on_as_it_was
    elif name == "baseline":
        from orchestrator.cli.baseline_options import read_request as read_baseline
        from orchestrator.planning.request import draft

        draft(read_baseline(words))
    else:
        main = importlib.import_module(f"orchestrator.{name}").main
        dry = [] if "--dry-run" in words or "--write-config" in words else ["--dry-run"]
        assert main([*words, *dry]) == 0


def check_ray(words: list[str]) -> None:
    """Read a command of Ray's command line, and check what it runs on the head."""
    from ray.scripts.scripts import cli

    group: Any = cli
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    context = group.make_context(group.name, words)
    inner = context.params.get("cmd") or context.params.get("entrypoint") or ()
    inner = inner if isinstance(inner, str) else shlex.join(inner)
    for command in commands_in(inner):
        check(command)


def check(words: list[str]) -> bool:
    """Check a command; return False if only running it could tell whether it is right."""
    while re.match(r"[A-Z_a-z0-9]+=", words[0]):
        words = words[1:]
    program, *words = words
    program = program.removeprefix(".venv/bin/")
    if program.startswith("python") and words[:1] == ["-m"]:
        module = words[1]
        if module.startswith("orchestrator."):
            check_ours(module.removeprefix("orchestrator."), words[2:])
        else:
            assert importlib.util.find_spec(module), module
            return module.startswith("tests.")
    elif program.startswith("python"):
        assert (ROOT / words[0]).is_file(), words[0]
    elif program == PROGRAM:
        check_ours(words[0], words[1:])
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == []
    elif program == "ray":
        check_ray(words)
    else:
        return program in BUILT_IN
    return True


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_shell_is_run_or_read_or_says_why_not(block: Block, folder: Path) -> None:
    unknown = [words for words in commands_in(block.text) if not check(words)]
    if block.reason:
        assert unknown, f"{block} could be checked whole: its comment is not needed"
    else:
        assert unknown == [], f"{block} needs a comment <!-- not run: … --> that says why"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_commands_in_sentences_are_valid(document: Path, folder: Path) -> None:
    """Unless they are shortened, as usages are."""
    for text in inline(document):
        is_ours = re.match(rf"(\.venv/bin/)?python -m orchestrator\.\w+ |{PROGRAM} \w+", text)
        if is_ours and not re.search(r"[\[…<]|COMMAND|FILE", text):
            for words in commands_in(text):
                check(words)


FLOPS = {"TFLOPs": 1e12, "EFLOPs": 1e18}
RATES = (125e12, 20e12)
"""FLOPs a second for which README's table says how long sweeps take."""


def test_the_hours_of_the_readme_follow_from_the_plans(capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.sweep import main

    rows = re.findall(
        r"^\| (`[^|]*`) \| (\d+) \| ([^|]*) \| ([^|]*)\| ([^|]*)\|$", text_of(DOCUMENTS[0]), re.MULTILINE
    )
    named = [(name, *row[1:]) for row in rows for name in re.findall(r"`([\w-]+)`", row[0])]
    assert {name for name, *_ in named} == set(all_benchmarks()) - {"image-folder"}
    for name, cells, flops, *hours in named:
        assert main([name, "--dry-run"]) == 0
        (total,) = re.findall(r"^all +(.*)$", capsys.readouterr().out, re.MULTILINE)
        assert total.split()[:3] == [cells, *flops.split()]
        amount = float(flops.split()[0]) * FLOPS[flops.split()[1]]
        if name != "digits":  # which does not need a GPU
            assert [int(one) for one in hours] == [round(amount / rate / 3600) for rate in RATES], name


@functools.cache
def options() -> frozenset[str]:
    """Every option of our commands, of the project's scripts, and of what the blocks of shell use."""
    helps = [path.read_text() for path in HELP.iterdir()]
    scripts = [
        path for name in ("benchmarks", "cluster", "tests/faults") for path in (ROOT / name).glob("*.py")
    ]
    return frozenset(
        re.findall(
            r"--[a-z][a-z-]+",
            "\n".join([*helps, *map(text_of, scripts), *(block.text for block in blocks("sh"))]),
        )
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_options_in_sentences_exist(document: Path) -> None:
    named = {word for text in inline(document) for word in re.findall(r"^--[a-z][a-z-]+", text)}
    assert sorted(named - options()) == []


# Links


@functools.cache
def anchors(document: Path) -> list[str]:
    """What a link can name after #, as GitHub makes it of headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_paths_in_sentences_exist(document: Path) -> None:
    tops = "|".join(("orchestrator", "trainables", "search_spaces", "cluster", "benchmarks", "tests", "docs"))
    for text in inline(document):
        if re.fullmatch(rf"(?:{tops})/[\w/.-]*", text):
            assert (ROOT / text).exists(), text

"""The console script: `holdout-sweeps COMMAND …` is `python -m orchestrator.COMMAND …`.

A command is a module of the package orchestrator with a function `main(words)` that returns the exit code.
Commands are found by their files and described by their docstrings, read from the source, so that --help
imports none of them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import shutil
import sys
import textwrap
from pathlib import Path

import orchestrator
from trainables.mistake import Mistake, unknown

PROGRAM = "holdout-sweeps"
WIDEST = 110
"""Columns beyond which lines of --help are hard to read."""


def main(words: list[str] | None = None) -> int:
    """Run the command that the first word names with the words after it; return its exit code.

    Without `words` they are those of the command line. --help lists the commands.
    """
    own, words = words is None, sys.argv[1:] if words is None else words
    try:
        if words[:1] in (["-h"], ["--help"]):
            print(_help())
            return 0
        name = _command(words)
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"{orchestrator.__name__}.{name}").main
    if own:  # the command may do more in a process of its own than in somebody else's
        sys.argv = [f"{PROGRAM} {name}", *words[1:]]
    code: int = command(None if own else words[1:])
    return code


def commands() -> dict[str, str]:
    """Return each command's description, the first sentence of its module's docstring, by its name."""
    found = {}
    for module in pkgutil.iter_modules(orchestrator.__path__):
        spec = importlib.util.find_spec(f"{orchestrator.__name__}.{module.name}")
        if module.ispkg or spec is None or spec.origin is None:
            continue
        tree = ast.parse(Path(spec.origin).read_bytes())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[module.name] = _first_sentence(ast.get_docstring(tree) or "")
    return found


def _command(words: list[str]) -> str:
    """Return the command's name; raise Mistake if there is none or no such command."""
    valid = commands()
    if not words:
        raise Mistake(f"No command was given; valid: {', '.join(valid)}; see {PROGRAM} --help.")
    if words[0] not in valid:
        raise unknown("command", words[0], valid)
    return words[0]


def _help() -> str:
    """Return how the program is used: its commands, one a line."""
    found = commands()
    longest = max(map(len, found))
    width = min(shutil.get_terminal_size().columns - 2, WIDEST)
    lines = [f"usage: {PROGRAM} COMMAND [options]", "", "commands:"]
    for name, description in found.items():
        line = f"  {name:<{longest}}  {description}".rstrip()
        lines.append(textwrap.fill(line, width, subsequent_indent=" " * (longest + 4)))
    return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help lists a command's options."])


def _first_sentence(docstring: str) -> str:
    """Return a docstring's first sentence, without "`python -m orchestrator.COMMAND`: " before it."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) ", re.sub(r"^`[^`]*`: *", "", paragraph), maxsplit=1)[0]
    return sentence[:1].upper() + sentence[1:]


if __name__ == "__main__":
    sys.exit(main())

"""What the command lines of all commands share: the parser, and the words and numbers that they take."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from orchestrator.cli.process_list import hide_passwords
from orchestrator.cli.signals import exit_code, handling, name_of, number_of, raising, say
from orchestrator.ledger.interpreter import python
from orchestrator.planning.request import known_fields
from orchestrator.planning.specification import MOST
from trainables.mistake import Mistake, closest, one_line
from trainables.registry import place_in_plugin

WIDTH = 110
"""Columns of help."""


class Parser(argparse.ArgumentParser):
    """A command line whose refusals are Mistakes."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the arguments; raise Mistake for an empty word, as a variable that is not set leaves it."""
        words, option = [str(word) for word in (sys.argv[1:] if args is None else args)], "an argument"
        for word in words:
            value = word
            if word.startswith("--"):
                option, equals, value = word.partition("=")
                value = value if equals else option
            if not value.strip():
                raise Mistake(
                    f"{option} was given {value!r}, which is empty: give a value, or leave it out for the "
                    f"default; see {self._program} --help."
                )
        found, strays = self.parse_known_args(words, namespace)
        if strays:
            raise self.stray(strays[0])
        return found

    def stray(self, word: str) -> Mistake:
        """Return the Mistake for a word that belongs to no option, with what may have been meant."""
        name, equals, value = word.partition("=")
        is_option, said = name.startswith("-"), f"{word!r} belongs to no option"
        near = None
        if is_option:
            said = f"There is no option {name}"
            longs = {one.removeprefix("--"): one for one in self._option_string_actions if one[:2] == "--"}
            near = longs.get(closest(name.lstrip("-"), longs) or "")
        field = name.lstrip("-").replace("-", "_")
        if "--set" in self._option_string_actions and (is_option or equals):
            known = closest(field, known_fields())
            if known and (known == field or not near):
                near = f"--set {known}={value or 'VALUE'}"
        hint = f": {near} may be meant" if near else ""
        return Mistake(f"{said}{hint}; see {self._program} --help.")

    @property
    def _program(self) -> str:
        """The command as it can be typed here."""
        return f"{python()}{self.prog.removeprefix('python')}"

    def error(self, message: str) -> NoReturn:
        """Raise the message as a sentence that names the command's help."""
        message = message.removeprefix("argument ")
        raise Mistake(f"{message[0].upper()}{message[1:]}; see {self._program} --help.")


class _SweepName(argparse.Action):
    """Takes the name of a sweep, which must not lead out of the storage."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        """Raise Mistake unless the name is a plain word."""
        setattr(namespace, self.dest, plain_name(option or "NAME", values))


def add_sweep_name(group: argparse._ActionsContainer) -> None:
    """Add the argument that names a sweep."""
    group.add_argument("name", metavar="NAME", action=_SweepName, help="the sweep's name")


def wide(prog: str) -> argparse.HelpFormatter:
    """Lay help out as it was written, in lines of up to 110 characters; for commands with many options."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=WIDTH)


def run_command(command: Callable[[list[str] | None], int], words: list[str] | None) -> int:
    """Run a command and return its exit code.

    After one sentence that is 2, for a Mistake or an error in plug-ins, or for a signal 128 and its number.
    """
    if words is None:
        hide_passwords()
    with handling(raising()):
        try:
            return command(words)
        except Mistake as mistake:
            print(f"Error: {mistake}", file=sys.stderr)
        except KeyboardInterrupt as interrupt:
            say(f"Stopped by {name_of(number_of(interrupt))}.")
            return exit_code(interrupt)
        except (Exception, SystemExit) as error:
            place = place_in_plugin(error)
            if place is None:
                raise
            said = f"{type(error).__name__}: {one_line(error)}"
            print(
                f"Error: --plugin {place[0]}, line {place[1]}, failed ({said}): correct it.", file=sys.stderr
            )
    return 2


def whole_number(option: str, text: str, *, at_least: int = 1, at_most: int = MOST) -> int:
    """Return an option's whole number; raise Mistake for anything else."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not at_least <= int(text) <= at_most:
        raise Mistake(f"{option} {text} is not valid: give a whole number from {at_least} to {at_most}.")
    return int(text)


def number(option: str, text: str) -> float:
    """Return an option's number of at least 0 and at most MOST; raise Mistake for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST:
        raise Mistake(f"{option} {text} is not valid: give a number from 0 to {MOST}.")
    return value


def plain_name(option: str, name: str) -> str:
    """Return a name that can be a folder, a tag and a label; raise Mistake for any other."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise Mistake(
            f"{option} {name!r} is no plain word: use up to 100 letters, digits, dots, dashes and "
            "underscores, beginning with a letter or digit."
        )
    return name

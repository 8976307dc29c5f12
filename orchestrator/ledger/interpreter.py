"""The word by which a person starts this interpreter in the shell that a command is printed in."""

from __future__ import annotations

import os
import shutil
import sys


def python() -> str:
    """Return `python` if that is this interpreter, else the shortest path that is, quoted for no shell.

    An environment's interpreter is a link to the one that it was made with, so the folder counts, too.
    """
    found, own = shutil.which("python"), os.path.abspath(sys.executable)
    if found is not None and _place(found) == _place(own):
        return "python"
    try:
        below = own.removeprefix(os.path.join(os.getcwd(), ""))
    except FileNotFoundError:  # the folder was removed
        return own
    return below if os.sep in below else own


def _place(path: str) -> tuple[str, str]:
    """Return an interpreter's folder, and the file that it is in the end."""
    return os.path.realpath(os.path.dirname(path)), os.path.realpath(path)

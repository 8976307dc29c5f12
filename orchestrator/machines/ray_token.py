"""The token that Ray's processes ask each other for: where it is, and whether only its owner can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def token_path() -> Path:
    """Return the file in which Ray looks for its token on this machine."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def has_private_token() -> bool:
    """Return whether this person has a token, in the environment or in a file that nobody else can read."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or _file_error(token_path()) == ""


def token_error() -> str:
    """Return what is wrong with this machine's token; "" if nothing is, or RAY_AUTH_MODE asks for none."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return ""
    return _file_error(token_path())


def _file_error(path: Path) -> str:
    """Return what is wrong with a token's file, "" if nothing is."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        empty = not path.read_text().strip()
    except OSError as error:
        return f"RAY_AUTH_MODE is token, but there is no token in {path} ({error.strerror})"
    if empty:
        return f"RAY_AUTH_MODE is token, but {path} is empty"
    if os.name == "posix" and mode & 0o077:
        return f"others may read the token: {path} has mode {mode:o}, should be 600"
    return ""

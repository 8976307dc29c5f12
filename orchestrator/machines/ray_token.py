"""The token that Ray's processes ask each other for: where it is, and whether only its owner can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def token_path() -> Path:
    """Return the file in which Ray looks for its token on this machine."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def token_error() -> str:
    """Return what is wrong with this machine's token; "" if nothing is, or RAY_AUTH_MODE asks for none."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return ""
    path = token_path()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        empty = not path.read_text().strip()
    except OSError as error:
        return f"RAY_AUTH_MODE is token, but there is no token in {path} ({error.strerror})"
    if empty:
        return f"RAY_AUTH_MODE is token, but {path} is empty"
    if mode & 0o077:
        return f"others may read the token: {path} has mode {mode:o}, should be 600"
    return ""

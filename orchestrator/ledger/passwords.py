"""Passwords in addresses such as http://user:secret@host, which nothing that is printed or kept may show."""

from __future__ import annotations

import re

MASK = "***"
"""What stands for a password."""

HINT = f"put the password in place of {MASK}, or set MLFLOW_TRACKING_URI"

# As far as the last @, since people forget to write a password's / or @ as %2F or %40.
_IN_ADDRESS = re.compile(r"(?<=://)([^\s/:@]*):[^\s'\"]*@")
_IN_QUERY = re.compile(r"(?i)([?&;](?:password|passwd|pwd|secret|secret_key|token)=)[^\s&;'\"]*")


def masked(text: str) -> str:
    """Return an address, or a text with addresses, with *** for each password."""
    return _IN_QUERY.sub(rf"\1{MASK}", _IN_ADDRESS.sub(rf"\1:{MASK}@", text))


def without_user(address: str) -> str:
    """Return the address of a page without user and password, for which a browser asks."""
    return re.sub(r"(?<=://)[^\s/]*@", "", masked(address))


def hinted(command: str) -> str:
    """Return a command with a shell comment that says where its password goes, if one was masked in it."""
    return f"{command}  # {HINT}" if MASK in command else command

"""JSON files that vouch for themselves: each states the digest of its own content.

The digest, in the field "digest", is the SHA-256 of all other fields as JSON with sorted keys and without
blanks. Version 0.1 wrote none; its files are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

DIGEST = "digest"

Json = dict[str, Any]


class Unsound(ValueError):
    """A file that is not what was written; the message is the end of a sentence that its name begins."""


def seal(values: Json) -> bytes:
    """Return values as the text of a file that states their digest."""
    plain = json.loads(json.dumps(values))  # keys as they are read again
    return (json.dumps({**plain, DIGEST: digest_of(plain)}, indent=1, sort_keys=True) + "\n").encode()


def unseal(data: bytes) -> tuple[Json, bool]:
    """Return the values of a file without their digest, and whether it had one; raise Unsound."""
    if not data.strip(b"\0 \r\n\t"):
        raise Unsound("is empty")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise Unsound("is not JSON") from None
    if not isinstance(values, dict):
        raise Unsound("is not a JSON object")
    if DIGEST not in values:
        return values, False
    stated = values.pop(DIGEST)
    if stated != digest_of(values):
        raise Unsound("does not have the digest that it states")
    return values, True


def digest_of(values: Json) -> str:
    """Return the digest of values that were read from JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

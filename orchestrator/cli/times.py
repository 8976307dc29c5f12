"""Times in words, as commands print them."""

from __future__ import annotations

import time


def duration(seconds: float) -> str:
    """Return seconds in words: 40 s, 5 min, 3.2 h, 2.5 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def moment(seconds: float, now: float | None = None) -> str:
    """Return a moment, in Unix seconds, as a time of day, with the date if that is not today's."""
    at = time.localtime(seconds)
    today = time.localtime(now)[:3] == at[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", at)

"""The access log: which images were opened for one cell, as the leak firewall checks it."""

from __future__ import annotations

from trainables.data.image_table import ImageTable


class AccessLog:
    """The tables of images that were opened for one cell, in the order in which each was first opened.

    A closed log is complete: tables that it does not hold can no longer be opened.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, tuple[str, ...]], dict[str, object]] = {}
        self._closed = False

    def add(self, table: ImageTable) -> None:
        """Add a table that was opened, unless the log holds it; raise RuntimeError if the log is closed."""
        key = (table.split, table.classes)
        if key in self._entries:
            return
        if self._closed:
            raise RuntimeError(
                f"{table.split} images of {', '.join(table.classes)} were opened after the access log was "
                "closed: open everything that a cell needs before."
            )
        self._entries[key] = {
            "split": table.split,
            "classes": list(table.classes),
            "count": len(table),
            "digest": table.digest,
        }

    def close(self) -> list[dict[str, object]]:
        """Close the log and return its entries as cell.json holds them.

        An entry has a table's split, classes, count of images and digest.
        """
        self._closed = True
        return [dict(entry) for entry in self._entries.values()]

"""The report as one HTML page that loads nothing from anywhere: what its template is given, and the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.reporting.drawing import DPI
from orchestrator.reporting.pictures import Gallery
from orchestrator.reporting.tables import TEXT, Table, best, groups, printed

TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class Figure:
    """A PNG file with the sentence that says what it shows."""

    png: bytes
    caption: str

    @property
    def inches(self) -> float:
        """The width that the figure was drawn with, as the file's header has it."""
        return int.from_bytes(self.png[16:20], "big") / DPI

    @property
    def source(self) -> str:
        """The file as an address of data."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out, and the whole section if all is."""

    title: str
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    stands_out: bool = False
    """Whether its items are what a reader should see first."""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    galleries: Sequence[Gallery] = ()
    facts: Sequence[tuple[str, str]] = ()
    """Terms with what is said of them."""
    commands: Sequence[str] = ()
    closing: Sequence[str] = ()
    """Sentences after all else."""

    @property
    def name(self) -> str:
        """The section's address within the page."""
        return "-".join(self.title.lower().replace(",", "").split())

    @property
    def empty(self) -> bool:
        """Whether the section has no content."""
        return not any(value for name, value in vars(self).items() if name not in ("title", "stands_out"))


@dataclass(frozen=True)
class Field:
    """A field of a table's row."""

    text: str
    is_number: bool
    is_best: bool


def fields(table: Table) -> list[list[Field]]:
    """Return a table's rows as the page prints them."""
    winners = best(table)
    return [
        [
            Field(text, table.columns[place].kind != TEXT, (number, place) in winners)
            for place, text in enumerate(row)
        ]
        for number, row in enumerate(printed(table))
    ]


def page(title: str, sections: Sequence[Section]) -> str:
    """Return the page with those of the sections that have content."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # 0.1 s: not every report is written

    environment = Environment(
        loader=PackageLoader("orchestrator.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [section for section in sections if not section.empty]
    template = environment.get_template(TEMPLATE)
    return template.render(title=title, sections=shown, fields=fields, groups=groups)

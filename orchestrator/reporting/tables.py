"""Tables as terminal text, Markdown, LaTeX and CSV.

Entries are in 0..1; text, Markdown and LaTeX print them in percent with two decimals, CSV as they are.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.reporting.statistics import Difference, Estimate

TEXT, NUMBER, SHARE, ESTIMATE, DIFFERENCE = "text", "number", "share", "estimate", "difference"
CHANCE, INTERVAL, COUNT = "chance", "interval", "count"
BLANK = ""
"""An entry that has no meaning in its row; None is an entry that is not known yet."""

NEEDS = r"% needs \usepackage{booktabs,graphicx}, and UTF-8"
NO_WIDER = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
"""Begins a box that is made smaller if it is wider than the text."""

_MINUS = re.compile(r"^-(?=\d)")


@dataclass(frozen=True)
class Chance:
    """A random detector's AP, and the number of anomalies behind it if it is known."""

    share: float
    positives: int | None


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Count:
    """So many of so many."""

    found: int
    of: int


Entry = str | float | Estimate | Difference | Chance | Interval | Count | None


@dataclass(frozen=True)
class Column:
    """A column: its title, its kind of entry, its name in CSV and the group of columns that it belongs to."""

    title: str
    kind: str
    name: str
    group: str = ""
    contest: str = ""
    """Of the columns of one contest, the highest entry of a row is its best; columns of none have no best."""


@dataclass(frozen=True)
class Table:
    """Rows of entries; consecutive columns of one group share a heading."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    caption: str
    label: str
    rules: frozenset[int] = frozenset()
    """Indices of rows with a rule above them."""
    full: int | None = None
    """Number of seeds that estimates should have; one with fewer is marked with an asterisk."""


def to_text(table: Table) -> str:
    """Return the table for a terminal, without its caption."""
    body = _aligned(table, _formatted(table))
    titles = [column.title for column in table.columns]
    gaps = _gaps(table)
    widths = _widths(table, [titles, *body], gaps)
    head = _join(table, titles, widths, gaps)
    lines = [*_group_line(table, widths, gaps), head, "-" * len(head)]
    for number, row in enumerate(body):
        if number in table.rules:
            lines.append("-" * len(head))
        lines.append(_join(table, row, widths, gaps))
    return "\n".join(line.rstrip() for line in lines)


def to_markdown(table: Table) -> str:
    """Return the table and its caption; a column's group, which Markdown lacks, precedes its title."""
    body = _aligned(table, _formatted(table))
    titles = [f"{column.group} {column.title}".strip() for column in table.columns]
    rows = [[_escape_markdown_entry(text) for text in row] for row in [titles, *body]]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(titles))]
    left = [column.kind == TEXT for column in table.columns]
    rule = ["-" * w if is_left else "-" * (w - 1) + ":" for w, is_left in zip(widths, left, strict=True)]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        fields = [
            t.ljust(w) if is_left else t.rjust(w) for t, w, is_left in zip(row, widths, left, strict=True)
        ]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join([*lines, "", escape_markdown(table.caption)])


def to_latex(table: Table) -> str:
    r"""Return a table of at most \textwidth, across both columns if there are two."""
    spec = "".join("l" if column.kind == TEXT else "r" for column in table.columns)
    lines = [NEEDS, r"\begin{table*}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    lines += [r"\setlength{\belowcaptionskip}{4pt}"]  # article leaves no room between a caption and a rule
    lines += [rf"\caption{{{_prose(table.caption)}}}", rf"\label{{{table.label}}}"]
    lines += [NO_WIDER, rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *_latex_groups(table)]
    lines += [_latex_row([_prose(column.title) for column in table.columns]), r"\midrule"]
    winners = best(table)
    for number, row in enumerate(table.rows):
        if number in table.rules:
            lines.append(r"\midrule")
        fields = []
        for place, (column, entry) in enumerate(zip(table.columns, row, strict=True)):
            field = _latex_entry(table, column, entry)
            fields.append(rf"\textbf{{{field}}}" if (number, place) in winners else field)
        lines.append(_latex_row(fields))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}"])


def to_csv(table: Table) -> str:
    """Return values in 0..1; estimates fill columns for mean, std and n, differences one for their error."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(name for column in table.columns for name in _csv_names(column))
    for row in table.rows:
        fields: list[object] = []
        for column, entry in zip(table.columns, row, strict=True):
            if isinstance(entry, Estimate):
                fields += [entry.mean, entry.std, entry.n]
            elif isinstance(entry, Difference):
                fields += [entry.value, entry.standard_error]
            elif isinstance(entry, Chance):
                fields += [entry.share, entry.positives]
            elif isinstance(entry, Interval):
                fields += [entry.value, entry.low, entry.high]
            elif isinstance(entry, Count):
                fields += [entry.found, entry.of]
            else:
                fields += [entry] + [None] * (len(_csv_names(column)) - 1)
        writer.writerow(fields)
    return sink.getvalue()


def _csv_names(column: Column) -> tuple[str, ...]:
    """Return the names of the fields that a column fills."""
    name = column.name
    return {
        ESTIMATE: (f"{name}_mean", f"{name}_std", f"{name}_n"),
        DIFFERENCE: (name, f"{name}_standard_error"),
        CHANCE: (name, "positives"),
        INTERVAL: (name, f"{name}_low", f"{name}_high"),
        COUNT: (name, f"{name}_of"),
    }.get(column.kind, (name,))


def best(table: Table) -> set[tuple[int, int]]:
    """Return the places, by row and column, of the highest entry of each contest, as it is printed."""
    found = set()
    for number, row in enumerate(table.rows):
        for contest in {column.contest for column in table.columns} - {""}:
            values = {
                place: round(entry.mean, 4)
                for place, (column, entry) in enumerate(zip(table.columns, row, strict=True))
                if column.contest == contest and isinstance(entry, Estimate)
            }
            highest = max(values.values(), default=0.0)
            if len(set(values.values())) > 1:
                found |= {(number, place) for place, value in values.items() if value == highest}
    return found


def printed(table: Table) -> list[list[str]]:
    """Return each entry as text, without the blanks that align it."""
    return [[value + spread for value, spread in row] for row in _formatted(table)]


def escape_latex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "[": "{[}",  # after a line break, [ would begin its argument, and * its starred form
        "*": "{*}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
    return "".join(special.get(character, character) for character in text)


def _prose(text: str) -> str:
    """Return text in LaTeX with the word lambda as its letter."""
    return re.sub(r"\blambda\b", r"$\\lambda$", escape_latex(text))


def _formatted(table: Table) -> list[list[tuple[str, str]]]:
    """Return each entry in two parts: its value, and its ± and asterisk."""
    return [
        [_parts(table, column, entry) for column, entry in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]


def _parts(table: Table, column: Column, entry: Entry) -> tuple[str, str]:
    if entry is None:
        return "-", ""
    if isinstance(entry, str):
        return entry, ""
    if isinstance(entry, Estimate):
        few = "*" if table.full is not None and entry.n < table.full else ""
        spread = "" if entry.std is None else f" ± {100 * entry.std:.2f}"
        return f"{100 * entry.mean:.2f}", spread + few
    if isinstance(entry, Difference):
        error = entry.standard_error
        return f"{100 * entry.value:+.2f}", "" if error is None else f" ± {100 * error:.2f}"
    if isinstance(entry, Chance):
        return f"{100 * entry.share:.2f}", "" if entry.positives is None else f" ({entry.positives})"
    if isinstance(entry, Interval):
        return f"{100 * entry.value:.2f}", f" [{100 * entry.low:.2f}, {100 * entry.high:.2f}]"
    if isinstance(entry, Count):
        return f"{entry.found} of {entry.of}", ""
    return (f"{100 * entry:.2f}" if column.kind == SHARE else f"{entry:.3g}"), ""


def _latex_entry(table: Table, column: Column, entry: Entry) -> str:
    if entry is None:
        return "--"
    value, spread = _parts(table, column, entry)
    return _MINUS.sub("$-$", escape_latex(value)) + spread.replace("±", r"$\pm$")


def _aligned(table: Table, formatted: list[list[tuple[str, str]]]) -> list[list[str]]:
    """Return entries as text, with the ± of each column aligned."""
    lines: list[list[str]] = [[] for _ in formatted]
    for i, column in enumerate(table.columns):
        entries = [row[i] for row in formatted]
        head = max((len(value) for value, _ in entries), default=0)
        starred = any(spread.endswith("*") for _, spread in entries)
        tail = max((len(spread.removesuffix("*")) for _, spread in entries), default=0)
        if starred:
            tail += 1
        for line, (value, spread) in zip(lines, entries, strict=True):
            number = f"{value.rjust(head)}{_widen(spread, tail, starred=starred)}"
            line.append(value if column.kind == TEXT else number)
    return lines


def _widen(spread: str, width: int, *, starred: bool) -> str:
    """Return a spread such as " ± 1.20" with its number right-aligned, leaving room for an asterisk."""
    star = ("*" if spread.endswith("*") else " ") if starred else ""
    spread, room = spread.removesuffix("*"), width - len(star)
    if not spread:
        return star.ljust(width)
    if not spread.startswith(" ± "):
        return spread.rjust(room) + star
    return spread[:3] + spread[3:].rjust(room - 3) + star


def _gaps(table: Table) -> list[int]:
    """Return the spaces before each column, more if a group begins or ends there."""
    gaps = [0]
    for before, column in itertools.pairwise(table.columns):
        gaps.append(2 if before.group == column.group else 3)
    return gaps


def _widths(table: Table, rows: list[list[str]], gaps: list[int]) -> list[int]:
    """Return the columns' widths; the last of a group is widened if the group's heading needs it."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    start = 0
    for group, count in groups(table):
        end = start + count
        span = sum(widths[start:end]) + sum(gaps[start + 1 : end])
        heading = len(group) + 4 if count > 1 else len(group)
        widths[end - 1] += max(0, heading - span)
        start = end
    return widths


def _join(table: Table, row: Sequence[str], widths: list[int], gaps: list[int]) -> str:
    fields = []
    for column, text, width, gap in zip(table.columns, row, widths, gaps, strict=True):
        fields.append(" " * gap + (text.ljust(width) if column.kind == TEXT else text.rjust(width)))
    return "".join(fields)


def groups(table: Table) -> list[tuple[str, int]]:
    """Return the headings over columns, and how many columns each is over; a blank one is none."""
    return [(group, len(list(run))) for group, run in itertools.groupby(table.columns, lambda c: c.group)]


def _group_line(table: Table, widths: list[int], gaps: list[int]) -> list[str]:
    """Return the line of group headings, each centred over its columns; nothing without groups."""
    if not any(column.group for column in table.columns):
        return []
    line, start = "", 0
    for group, count in groups(table):
        end = start + count
        span = sum(widths[start:end]) + sum(gaps[start + 1 : end])
        heading = f" {group} ".center(span, "-") if group and count > 1 else group.rjust(span)
        line += " " * gaps[start] + heading
        start = end
    return [line]


def _latex_groups(table: Table) -> list[str]:
    if not any(column.group for column in table.columns):
        return []
    fields, rules, start = [], [], 1
    for group, count in groups(table):
        fields.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    return [_latex_row(fields), " ".join(rules)]


def _latex_row(fields: Sequence[str]) -> str:
    return " & ".join(fields) + r" \\"


def escape_markdown(text: str) -> str:
    """Return a sentence as Markdown: a name in it begins neither HTML nor the address of a link."""
    return re.sub(r"<(?=[A-Za-z/!?])|(?<=\])\(", r"\\\g<0>", text)


def _escape_markdown_entry(text: str) -> str:
    """Return an entry of a table, as Markdown that shows every character."""
    return re.sub(r"[\\`|\[<]", r"\\\g<0>", text.replace("\n", " "))

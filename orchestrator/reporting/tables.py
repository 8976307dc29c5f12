"""One table as terminal text, Markdown, LaTeX and CSV.

Entries are fractions; text, Markdown and LaTeX print them in percent with two decimals, CSV keeps them.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.reporting.statistics import Difference, Estimate

TEXT, NUMBER, SHARE, ESTIMATE, DIFFERENCE = "text", "number", "share", "estimate", "difference"
BLANK = ""
"""An entry that has no meaning in its row; None is one that is not there yet."""

_MINUS = re.compile(r"^-(?=\d)")

Entry = str | float | Estimate | Difference | None


@dataclass(frozen=True)
class Column:
    """A column: its title, what it holds, its name in CSV and the group of columns that it belongs to."""

    title: str
    kind: str
    name: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of entries below columns; consecutive columns of one group share a heading."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    caption: str
    label: str
    rules: frozenset[int] = frozenset()
    """Indices of rows that a rule sets apart from the row above."""
    full: int | None = None
    """How many trials an estimate should have; one with fewer bears an asterisk."""


def to_text(table: Table) -> str:
    """The table for a terminal, caption left out."""
    body = _aligned(table, _words(table, " ± "))
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
    """The table and its caption; groups, which Markdown lacks, stand before their columns' titles."""
    body = _aligned(table, _words(table, " ± "))
    titles = [f"{column.group} {column.title}".strip() for column in table.columns]
    rows = [[_escape_markdown(text) for text in row] for row in [titles, *body]]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(titles))]
    left = [column.kind == TEXT for column in table.columns]
    rule = ["-" * w if is_left else "-" * (w - 1) + ":" for w, is_left in zip(widths, left, strict=True)]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        fields = [
            t.ljust(w) if is_left else t.rjust(w) for t, w, is_left in zip(row, widths, left, strict=True)
        ]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join([*lines, "", _escape_markdown(table.caption)])


def to_latex(table: Table) -> str:
    r"""A table environment of its own; the document needs \usepackage{booktabs} and UTF-8."""
    rows = _words(table, r" $\pm$ ", escape=escape_latex, missing="--")
    spec = "".join("l" if column.kind == TEXT else "r" for column in table.columns)
    lines = [r"\begin{table}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    lines += [rf"\caption{{{_prose(table.caption)}}}", rf"\label{{{table.label}}}"]
    lines += [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", *_latex_groups(table)]
    lines += [_latex_row([_prose(column.title) for column in table.columns]), r"\midrule"]
    for number, row in enumerate(rows):
        if number in table.rules:
            lines.append(r"\midrule")
        lines.append(_latex_row([_MINUS.sub("$-$", "".join(parts)) for parts in row]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def to_csv(table: Table) -> str:
    """Fractions; an estimate fills three columns (mean, std, n), a difference two (and standard error)."""
    suffixes = {ESTIMATE: ("_mean", "_std", "_n"), DIFFERENCE: ("", "_standard_error")}
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(c.name + end for c in table.columns for end in suffixes.get(c.kind, ("",)))
    for row in table.rows:
        fields: list[object] = []
        for column, entry in zip(table.columns, row, strict=True):
            if isinstance(entry, Estimate):
                fields += [entry.mean, entry.std, entry.n]
            elif isinstance(entry, Difference):
                fields += [entry.value, entry.standard_error]
            else:
                fields += [entry] + [None] * (len(suffixes.get(column.kind, ("",))) - 1)
        writer.writerow(fields)
    return sink.getvalue()


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters made plain."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "[": "{[}",  # an argument, and a star a variant, of the line break before it
        "*": "{*}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
    return "".join(special.get(character, character) for character in text)


def _prose(text: str) -> str:
    """Words of this project in LaTeX, where lambda has a sign of its own."""
    return re.sub(r"\blambda\b", r"$\\lambda$", escape_latex(text))


def _words(
    table: Table, plus_minus: str, *, escape: Callable[[str], str] = str, missing: str = "-"
) -> list[list[tuple[str, str]]]:
    """Each entry as what stands before ± and what from there on."""

    def one(column: Column, entry: Entry) -> tuple[str, str]:
        if entry is None:
            return missing, ""
        if isinstance(entry, str):
            return escape(entry), ""
        if isinstance(entry, Estimate):
            few = "*" if table.full is not None and entry.n < table.full else ""
            spread = "" if entry.std is None else f"{plus_minus}{100 * entry.std:.2f}"
            return f"{100 * entry.mean:.2f}", spread + few
        if isinstance(entry, Difference):
            error = entry.standard_error
            return f"{100 * entry.value:+.2f}", "" if error is None else f"{plus_minus}{100 * error:.2f}"
        return (f"{100 * entry:.2f}" if column.kind == SHARE else f"{entry:.3g}"), ""

    return [[one(c, e) for c, e in zip(table.columns, row, strict=True)] for row in table.rows]


def _aligned(table: Table, words: list[list[tuple[str, str]]]) -> list[list[str]]:
    """Entries as text, with the ± of a column below one another."""
    lines: list[list[str]] = [[] for _ in words]
    for i, column in enumerate(table.columns):
        entries = [row[i] for row in words]
        head = max((len(value) for value, _ in entries), default=0)
        starred = any(spread.endswith("*") for _, spread in entries)
        tail = max((len(spread.removesuffix("*")) for _, spread in entries), default=0) + starred
        for line, (value, spread) in zip(lines, entries, strict=True):
            number = f"{value.rjust(head)}{_widen(spread, tail, starred=starred)}"
            line.append(value if column.kind == TEXT else number)
    return lines


def _widen(spread: str, width: int, *, starred: bool) -> str:
    """A spread such as " ± 1.20" with its number moved right, short of the place of an asterisk."""
    star = ("*" if spread.endswith("*") else " ") if starred else ""
    spread, room = spread.removesuffix("*"), width - len(star)
    if not spread:
        return star.ljust(width)
    return spread[:3] + spread[3:].rjust(room - 3) + star


def _gaps(table: Table) -> list[int]:
    """Spaces before each column: more where a group begins or ends."""
    gaps = [0]
    for before, column in itertools.pairwise(table.columns):
        gaps.append(2 if before.group == column.group else 3)
    return gaps


def _widths(table: Table, rows: list[list[str]], gaps: list[int]) -> list[int]:
    """The columns' widths; the last of a group is widened where the group's heading needs it."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    start = 0
    for group, count in _groups(table):
        end = start + count
        span = sum(widths[start:end]) + sum(gaps[start + 1 : end])
        widths[end - 1] += max(0, len(group) + 4 * (count > 1) - span)
        start = end
    return widths


def _join(table: Table, row: Sequence[str], widths: list[int], gaps: list[int]) -> str:
    fields = []
    for column, text, width, gap in zip(table.columns, row, widths, gaps, strict=True):
        fields.append(" " * gap + (text.ljust(width) if column.kind == TEXT else text.rjust(width)))
    return "".join(fields)


def _groups(table: Table) -> list[tuple[str, int]]:
    return [(group, len(list(run))) for group, run in itertools.groupby(table.columns, lambda c: c.group)]


def _group_line(table: Table, widths: list[int], gaps: list[int]) -> list[str]:
    """The line of group headings, each centred over its columns; none where there are no groups."""
    if not any(column.group for column in table.columns):
        return []
    line, start = "", 0
    for group, count in _groups(table):
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
    for group, count in _groups(table):
        fields.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    return [_latex_row(fields), " ".join(rules)]


def _latex_row(fields: Sequence[str]) -> str:
    return " & ".join(fields) + r" \\"


def _escape_markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")

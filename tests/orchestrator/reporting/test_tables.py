"""A table in four formats: their contents, their alignment, and LaTeX that compiles."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.reporting.statistics import Difference, Estimate
from orchestrator.reporting.tables import (
    BLANK,
    CHANCE,
    COUNT,
    DIFFERENCE,
    ESTIMATE,
    INTERVAL,
    NUMBER,
    SHARE,
    TEXT,
    Chance,
    Column,
    Count,
    Interval,
    Table,
    best,
    escape_latex,
    printed,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)

HOSTILE = "[a_b] & 50% #$~^\\{}|<>*"
TABLE = Table(
    columns=(
        Column("held out", TEXT, "holdout"),
        Column("random AP", SHARE, "random_ap"),
        Column("AP-MSP", ESTIMATE, "rotation_ap_msp", "rotation"),
        Column("lambda", NUMBER, "rotation_lambda", "rotation"),
        Column("change", DIFFERENCE, "change"),
    ),
    rows=(
        ("cat", 0.1, Estimate(0.53125, 0.0092, 3), 0.43721, Difference(0.0512, 0.0101)),
        (HOSTILE, 1 / 12, Estimate(0.05, 0.125, 2), 10.0, Difference(-0.02, None)),
        ("*none", None, Estimate(0.2, None, 1), None, BLANK),
        ("average", 0.1, None, BLANK, BLANK),
    ),
    caption="AP ± deviation in 50% & a_b; lambda too",
    label="tab:x",
    rules=frozenset({3}),
    full=3,
)


def test_text_is_in_percent_with_two_decimals() -> None:
    lines = to_text(TABLE).splitlines()
    assert lines[1].split() == ["held", "out", "random", "AP", "AP-MSP", "lambda", "change"]
    assert lines[3].split() == ["cat", "10.00", "53.12", "±", "0.92", "0.437", "+5.12", "±", "1.01"]
    assert lines[4].split()[-6:] == ["8.33", "5.00", "±", "12.50*", "10", "-2.00"]
    assert lines[5].split() == ["*none", "-", "20.00*", "-"]
    assert set(lines[6]) == {"-"}
    assert lines[7].split() == ["average", "10.00", "-"]


def test_text_aligns_plus_minus_signs_and_decimal_points() -> None:
    lines = to_text(TABLE).splitlines()
    assert lines[3].index("±") == lines[4].index("±")
    assert lines[3].index("0.92") + 1 == lines[4].index("12.50") + 2 == lines[3].index(".92")
    assert all(line == line.rstrip() for line in lines)


def test_a_group_s_heading_is_over_its_columns_however_long() -> None:
    long = "rotation+center-mask-and-more"
    columns = tuple(Column(c.title, c.kind, c.name, c.group and long) for c in TABLE.columns)
    lines = to_text(Table(columns, TABLE.rows, "", "")).splitlines()
    start = lines[0].index("- " + long)
    assert start < lines[1].index("AP-MSP")
    assert lines[0].rindex("-") == lines[1].index("lambda") + len("lambda") - 1


def test_markdown_is_aligned_and_escapes_bars_in_names() -> None:
    lines = to_markdown(TABLE).splitlines()
    table = lines[: 2 + len(TABLE.rows)]
    assert len({len(line) for line in table}) == 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(TABLE.columns) + 1}
    assert "rotation AP-MSP" in lines[0]
    assert lines[1].split("|")[1].strip("- ") == ""
    assert lines[1].split("|")[2].strip().endswith("-:")
    assert lines[-1] == TABLE.caption


def test_csv_holds_values_to_the_last_bit() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert [row["holdout"] for row in rows] == ["cat", HOSTILE, "*none", "average"]
    assert float(rows[1]["random_ap"]) == 1 / 12
    assert float(rows[0]["rotation_ap_msp_mean"]) == 0.53125
    assert float(rows[0]["rotation_ap_msp_std"]) == 0.0092
    assert rows[2]["rotation_ap_msp_n"] == "1"
    assert rows[2]["rotation_ap_msp_std"] == ""
    assert (rows[0]["change"], rows[1]["change_standard_error"]) == ("0.0512", "")
    assert all(None not in row and None not in row.values() for row in rows)


def test_latex_has_as_many_fields_in_every_row_as_columns() -> None:
    text = to_latex(TABLE)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    spans = [sum(map(int, re.findall(r"\\multicolumn\{(\d+)\}", rows[0])))]
    spans += [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows[1:]]
    assert spans == [len(TABLE.columns)] * (2 + len(TABLE.rows))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]
    assert r"53.12 $\pm$ 0.92" in text
    assert r"$-$2.00" in text
    assert r"$\lambda$" in text


def test_counts_intervals_and_chance_in_every_format() -> None:
    table = Table(
        (Column("c", CHANCE, "random_ap"), Column("i", INTERVAL, "ap"), Column("n", COUNT, "noticed")),
        ((Chance(0.1, 12), Interval(0.5, 0.25, 0.75), Count(3, 12)), (Chance(0.0988, None), None, None)),
        "",
        "",
    )
    assert printed(table) == [["10.00 (12)", "50.00 [25.00, 75.00]", "3 of 12"], ["9.88", "-", "-"]]
    first, second = to_text(table).splitlines()[-2:]
    assert first.index("10.00") == second.index("9.88") - 1
    assert to_csv(table).splitlines() == [
        "random_ap,positives,ap,ap_low,ap_high,noticed,noticed_of",
        "0.1,12,0.5,0.25,0.75,3,12",
        "0.0988,,,,,,",
    ]
    assert r"10.00 (12) & 50.00 [25.00, 75.00] & 3 of 12 \\" in to_latex(table)


def test_the_best_of_a_contest_is_bold_and_ties_as_printed_are_both_best() -> None:
    columns = tuple(
        Column("AP", ESTIMATE, name, name, contest) for name, contest in zip("abcd", "xxxy", strict=True)
    )
    rows = (
        (Estimate(0.5, None, 1), Estimate(0.7, 0.01, 2), Estimate(0.70001, None, 1), Estimate(0.9, None, 1)),
        (Estimate(0.5, None, 1), Estimate(0.5, None, 1), None, Estimate(0.9, None, 1)),
    )
    table = Table(columns, rows, "", "")
    assert best(table) == {(0, 1), (0, 2)}
    assert r"50.00 & \textbf{70.00 $\pm$ 1.00} & \textbf{70.00} & 90.00 \\" in to_latex(table)


def test_latex_names_what_it_needs_and_is_never_wider_than_the_text() -> None:
    first, *rest = to_latex(TABLE).splitlines()
    assert first.startswith("% needs")
    assert "booktabs" in first
    assert rest[0] == r"\begin{table*}"
    assert r"\ifdim\width>\textwidth\textwidth" in to_latex(TABLE)


def test_latex_s_special_characters_are_escaped() -> None:
    assert escape_latex("a_b & 5%") == r"a\_b \& 5\%"
    assert escape_latex("\\") == r"\textbackslash{}"
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\{[\[*]\}", "", escape_latex(HOSTILE))
    assert not set("\\&%$#_{}~^<>|[*") & set(bare)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}%s\\end{document}"
    (tmp_path / "table.tex").write_text(document % to_latex(TABLE), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)

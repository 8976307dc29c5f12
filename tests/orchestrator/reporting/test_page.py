"""The report's page: one file that loads nothing, whose numbers are those of every other format."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.planning.cells import FINAL
from orchestrator.reporting.report import Report, make_report
from tests.hand_made_ledger import finish, finish_all, scores_of, specification, write_sweep

HOSTILE = (
    '<script>alert("1")</script>',
    'a & b\'s "x"',
    "<img src=http://example.org/x.png onerror=alert(1)>",
)
VOID = {"meta", "img", "br", "link"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction"}


class Page(HTMLParser):
    """What a browser would find in a page: elements, headings, and tables as text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)
        if self.open and self.open[-1] in ("th", "td", "strong"):
            self.tables[-1][-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def titles(self) -> list[str]:
        return [text for tag, text in self.headings if tag == "h2"]


def page_of(report: Report) -> tuple[str, Page]:
    source = report.files["report.html"].decode()
    return source, Page(source)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a complete sweep with scores."""
    wanted = specification(seeds=2)
    ledger, cells = write_sweep(tmp_path_factory.mktemp("whole"), wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, scores=scores_of(cell) if cell.phase == FINAL else None)
    values = ledger.read_sweep()
    ledger.write_sweep({**values, "images": {"train": [10] * 10, "test": [11, *[10] * 8, 9]}})
    return make_report(ledger)


def test_the_sections_are_in_order_and_the_verdict_is_first(whole: Report) -> None:
    _, page = page_of(whole)
    assert page.titles == [
        "Verdict",
        "Results",
        "Against classification",
        "Average precision by held-out class",
        "Learning curves",
        "Precision and recall",
        "Scores of kept and held-out images",
        "Choice of lambda",
        "Accuracy and average precision",
        "What held-out images are taken for",
        "Most and least anomalous images",
        "Leak certificate",
        "Cost",
        "Provenance",
        "The command that repeats it",
    ]
    assert [tag for tag, _ in page.headings][:3] == ["h1", "h2", "h2"]


def test_numbers_agree_to_the_last_printed_digit_in_every_format(whole: Report) -> None:
    """A class's rows of the main table and of what is noticed: text, Markdown, LaTeX, CSV and HTML."""
    _, page = page_of(whole)
    main, noticed = page.tables[:2]
    row = next(row for row in main if row[0] == "3")
    assert row[1:3] == ["10.00 (10)", "30.50 ± 0.71"]
    assert row[-1] == "0.4"
    assert next(row for row in main if row[0] == "average")[1:3] == ["10.00", "30.50 ± 0.71"]
    sure = next(row for row in noticed if row[0] == "3")
    assert re.fullmatch(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", sure[2])
    assert re.fullmatch(r"\d+ of 20", sure[3])

    def fields(line: str, between: str) -> list[str]:
        return [re.sub(r" +", " ", field).strip() for field in line.split(between)]

    for wanted in (row, sure):
        texts = [fields(line, "  ") for line in whole.text.splitlines() if line.startswith("3  ")]
        assert wanted in [[field for field in line if field] for line in texts]
        marked = whole.markdown().replace("\\[", "[").splitlines()
        assert wanted in [fields(line.strip("|"), "|") for line in marked if line.startswith("| 3 ")]
        latex = whole.latex().replace(r"$\pm$", "±").replace("{[}", "[")
        plain = re.sub(r"\\textbf\{(.*?)\}", r"\1", latex).splitlines()
        assert wanted in [fields(line.removesuffix(r" \\"), "&") for line in plain if line.startswith("3 &")]

    def row_of(name: str) -> dict[str, str]:
        rows = csv.DictReader(io.StringIO(whole.files[name].decode()))
        return next(row for row in rows if row["holdout"] == "3")

    def percent(name: str, column: str) -> str:
        return f"{100 * float(row_of(name)[column]):.2f}"

    mean, std = (percent("table.csv", f"classification_ap_msp_{what}") for what in ("mean", "std"))
    assert row[2] == f"{mean} ± {std}"
    ap, low, high = (percent("noticed.csv", f"classification_ap{end}") for end in ("", "_low", "_high"))
    assert sure[2] == f"{ap} [{low}, {high}]"
    (cells,) = [
        r for r in csv.DictReader(io.StringIO(whole.files["noticed.csv"].decode())) if r["holdout"] == "3"
    ]
    assert sure[3] == f"{cells['classification_noticed']} of {cells['classification_noticed_of']}"
    assert cells["positives"] == "10"


def test_sentences_are_the_same_in_every_format(whole: Report) -> None:
    source, _ = page_of(whole)
    text, shown = " ".join(whole.text.split()), source.replace("&#39;", "'")
    assert whole.findings
    for sentence in (*whole.findings, whole.verdict.sentence, whole.cost.sentence):
        assert sentence in text
        assert sentence in whole.markdown()
        assert sentence in shown


def test_the_page_loads_nothing_and_says_so_to_the_browser(whole: Report) -> None:
    source, page = page_of(whole)
    for _, attributes in page.elements:
        for name in LOADING & attributes.keys():
            assert re.match(r"#[\w-]+$|data:image/png;base64,", attributes[name] or "")
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert "@import" not in source
    assert "url(" not in source
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert len(source) < 3_000_000


def test_the_page_can_be_read_without_seeing_it(whole: Report) -> None:
    _, page = page_of(whole)
    assert page.of("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in page.of("img"))
    assert {attributes.get("scope") for attributes in page.of("th")} == {"row", "col", "colgroup"}
    assert len(page.of("caption")) == len(page.tables)
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    assert {attributes["href"] for attributes in page.of("a")} == {f"#{name}" for name in names}


def test_names_of_classes_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    wanted = specification(
        HOSTILE,
        benchmark="image-folder",
        methods=("classification",),
        assignments=("image_size=32",),
        seeds=1,
    )
    ledger, cells = write_sweep(tmp_path, wanted, classes=HOSTILE)
    finish_all(ledger, wanted, cells, classes=HOSTILE)
    source, page = page_of(make_report(ledger))
    assert not {"script", "onerror"} & {tag for tag, _ in page.elements}
    assert "example.org" not in " ".join(a.get("src") or "" for a in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {row[0] for row in page.tables[0]} >= set(HOSTILE)
    assert "<script" not in source


def test_half_a_sweep_has_no_broken_sections(tmp_path: Path) -> None:
    wanted = specification(seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        if cell.label in ("classification/3/s0", "rotation/3/search0"):
            finish(ledger, wanted, cell)
    source, page = page_of(make_report(ledger))
    assert page.titles == [
        "Verdict",
        "Results",
        "Against classification",
        "Average precision by held-out class",
        "Learning curves",
        "Choice of lambda",
        "Accuracy and average precision",
        "Leak certificate",
        "Cost",
        "Provenance",
        "The command that repeats it",
    ]
    assert "Missing: 10 cells" in source
    assert "nothing is said of which one flags best" in source
    ledger, _ = write_sweep(tmp_path, wanted, name="new")
    _, page = page_of(make_report(ledger))
    assert "Learning curves" not in page.titles


def test_without_a_held_out_class_nothing_is_said_of_one(tmp_path: Path) -> None:
    wanted = specification(holdouts=("none",), seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    finish_all(ledger, wanted, cells)
    report = make_report(ledger)
    source, page = page_of(report)
    assert page.titles == [
        "Verdict",
        "Results",
        "Choice of lambda",
        "Leak certificate",
        "Cost",
        "Provenance",
        "The command that repeats it",
    ]
    for said in (source, report.text, report.markdown()):
        assert "held-out" not in said
        assert "anomal" not in said
        assert "guessing" not in said

"""The report's page: one file that loads nothing, whose numbers are those of every other format."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.cells import FINAL
from orchestrator.reporting.report import Report, make_report
from tests.hand_made_ledger import finish, finish_all, scores_of, specification, write_sweep

HOSTILE = (
    '<script>alert("1")</script>',
    'a & b\'s "x"',
    "<img src=http://example.org/x.png onerror=alert(1)>",
)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
A4 = 688
"""Pixels between the margins of a printed page."""
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


def test_the_page_s_text_stands_out_from_what_is_behind_it(whole: Report) -> None:
    source, _ = page_of(whole)
    found = re.findall(r":root {([^}]*)}", source)
    assert len(found) == 3  # light, dark and printed
    for rules in found:
        colours = dict(re.findall(r"--(\w+): (#\w+)", rules))
        for ink in ("ink", "soft", "link"):
            for behind in ("paper", "band"):
                assert contrast(colours[ink], colours[behind]) >= 4.5, (ink, behind, rules)
    assert contrast("#000", "#ffffff") == pytest.approx(21)


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def shown(wide: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Opens the report's page in Chromium, without a network; what it requests is in `requests`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if BROWSER is None:
        pytest.skip("needs Chromium")
    path = tmp_path_factory.mktemp("shown") / "report.html"
    path.write_bytes(wide.files["report.html"])
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])

        def open_page(width: int = 1400, **how: Any) -> Any:
            viewport = {"width": width, "height": 1000}
            page = browser.new_context(viewport=viewport, offline=True, **how).new_page()
            page.requests = []
            page.on("request", lambda request: page.requests.append(request.url))
            page.goto(path.as_uri())
            return page

        yield open_page
        browser.close()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a sweep of three methods with scores, whose main table has 13 columns."""
    wanted = specification(
        methods=("classification", "rotation", "rotation+center-mask"), seeds=2, aux_weight=("0.5",)
    )
    ledger, cells = write_sweep(tmp_path_factory.mktemp("wide"), wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, scores=scores_of(cell) if cell.phase == FINAL else None)
    return make_report(ledger)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_requests_nothing_and_finds_the_page_accessible(
    shown: Callable[..., Any], width: int, scheme: str
) -> None:
    page = shown(width, color_scheme=scheme, bypass_csp=True)  # the page allows no script, as axe is
    assert [url for url in page.requests if not url.startswith("data:")] == [page.url]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page)
    assert not found.response["violations"], found.generate_report()


@pytest.mark.slow
def test_nothing_is_cut_or_dark_on_paper(shown: Callable[..., Any]) -> None:
    page = shown(width=A4, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    ends = page.eval_on_selector_all(
        "table, img, pre, li, p", "all => all.map(each => each.getBoundingClientRect().right)"
    )
    assert len(ends) > 30
    assert max(ends) <= A4
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    inverted = "all => all.filter(each => getComputedStyle(each).filter != 'none').length"
    assert page.eval_on_selector_all("img", inverted) == 0
    assert page.pdf(format="A4").startswith(b"%PDF-")


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

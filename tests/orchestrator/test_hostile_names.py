"""Names that would do something where they are shown, kept or asked for, if nobody escaped them."""

from __future__ import annotations

import csv
import io
import re
import shlex
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.cli.next_commands import rebuild_command, resume_command, score_sets_command
from orchestrator.cli.parser import plain_name
from orchestrator.planning.named_sets import named_sets
from orchestrator.planning.request import Request
from orchestrator.reporting.report import Report, make_report
from orchestrator.reporting.results import cells_csv
from orchestrator.reporting.tables import TEXT, Column, Table, to_csv, to_latex, to_markdown, to_text
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.uris import ui_command
from tests.hand_made_ledger import finish_all, specification, write_sweep
from trainables.data.named_images import NamedImages
from trainables.mistake import Mistake

HOSTILE = {
    "latex": r"\input{/etc/passwd}",
    "latex specials": "50% of $x_1^2$ & {more} #1 ~",
    "latex line": r"\\[1cm]*",
    "markdown": "a | b [link](javascript:alert(1)) `code`",
    "backslash and bar": "a\\|b\\",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "filter": "x' or tags.cell != 'y",
    "quotes": "\"'\"'",
    "shell": "$(touch planted); `touch planted` && rm -r * | cat > planted",
    "option": "--storage=elsewhere",
    "path": "../../../outside",
    "formula": '=HYPERLINK("http://x","y")',
    "yaml": "a: &b [c, *d, !!python/object:x]",
    "format": "{0} %s %(x)s {name!r}",
    "rich": "[bold red]loud[/bold red] [link=http://x]y[/link]",
}
LATEX_ALONE = re.compile(r"(?<!\\)[%#$&_^~]")


def name_in(text: str) -> str:
    """Return LaTeX or Markdown as its reader sees it, as far as these names use them."""
    words = {
        r"\textbackslash{}": "\\",
        r"\textasciitilde{}": "~",
        r"\textasciicircum{}": "^",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\textbar{}": "|",
        "{[}": "[",
        "{*}": "*",
    }
    found = re.sub("|".join(map(re.escape, words)), lambda match: words[match[0]], text)
    return re.sub(r"\\([&%$#_{}])", r"\1", found)


@pytest.mark.parametrize("kind", HOSTILE)
def test_tables_show_a_name_and_nothing_else(kind: str) -> None:
    name = HOSTILE[kind]
    columns = (Column(name, TEXT, name), Column("AP", TEXT, "ap", name))
    table = Table(columns, ((name, "1"), ("cat", "2")), caption=name, label="tab:x")

    latex = to_latex(table)
    assert latex.count(r"\input") == 0
    body = latex.split(r"\midrule")[1].split(r"\\")[0].strip()
    assert name_in(body.removesuffix("& 1").strip()) == name
    assert not LATEX_ALONE.search(body.removesuffix("& 1"))

    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", row) for row in rows]
    assert {len(row) for row in cells} == {4}
    shown = "".join(re.sub(r"\\[^\w\s]", "", line) for line in to_markdown(table).splitlines())
    assert not re.search(r"<[a-z/]|\[[^]]*\]\(", shown)

    assert next(csv.reader(io.StringIO(to_csv(table).split("\n", 1)[1])))[0] == name
    assert name in to_text(table)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Tracker]:
    """A sweep whose classes have all these names, its report, and its tracker."""
    storage = tmp_path_factory.mktemp("hostile")
    classes = tuple(HOSTILE.values())
    wanted = specification(classes, methods=("classification",), seeds=1)
    ledger, cells = write_sweep(storage, wanted, classes=classes)
    finish_all(ledger, wanted, cells, classes=classes)
    tracker = Tracker(f"sqlite:///{storage}/mlflow.db", ledger, wanted, cells.all())
    return make_report(ledger, Request(storage=str(storage))), tracker


def test_a_report_of_such_classes_is_whole(reported: tuple[Report, Tracker]) -> None:
    report, _ = reported
    assert report.sound
    latex, markdown = report.latex(), report.markdown()
    assert r"\input" not in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}")
    assert not re.search(r"(?<!\\)<[a-z/]", markdown)
    rows = list(csv.DictReader(io.StringIO(cells_csv(report.results))))
    assert {row["holdout"] for row in rows} == set(HOSTILE.values())
    assert len(rows) == len(report.results.finals)
    assert {path.name for path in Path(report.results.ledger.storage).iterdir()} <= {
        "mine",
        "mlflow.db",
        "mlflow.db.lock",
    }


def test_mlflow_keeps_such_names_as_they_are_and_finds_the_runs_again(
    reported: tuple[Report, Tracker],
) -> None:
    report, tracker = reported
    ledger, wanted, cells = report.results.ledger, report.results.specification, report.results.cells.all()
    for _ in range(2):  # the second time every run is found, and none is made again
        tracker = Tracker(tracker._uri, ledger, wanted, cells)
        tracker.connect()
        tracker.rebuild()
        tracker.close(timeout=30)
    client = MlflowClient(tracker._uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "cell" in run.data.tags]
    assert len(runs) == len(report.results.cells.all()) == len(HOSTILE)
    assert {run.data.params["holdout"] for run in runs} == set(HOSTILE.values())


@pytest.mark.parametrize("kind", HOSTILE)
def test_printed_commands_read_back_as_the_words_that_they_mean(kind: str) -> None:
    name = HOSTILE[kind]
    request = Request(storage=name, cache=name, tracking_uri=name)
    assert name in shlex.split(resume_command(request, "mine"))
    assert name in shlex.split(rebuild_command(request, "mine"))
    assert f"set={name}" in shlex.split(score_sets_command(request, "mine", NamedImages("set", name)))
    assert f"sqlite:///{name}" in shlex.split(ui_command(f"sqlite:///{name}"))


@pytest.mark.parametrize("kind", [*HOSTILE, "empty"])
def test_what_names_files_is_a_plain_word(kind: str, tmp_path: Path) -> None:
    """Names of sweeps, image sets and detectors become names of files."""
    name = HOSTILE.get(kind, "")
    with pytest.raises(Mistake):
        plain_name("--name", name)
    with pytest.raises(Mistake):
        named_sets([f"{name}={tmp_path}"], None, 1, 0)

"""docs/extending.md: its code runs as it stands, and its table names every file that must be touched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification
from tests.sweeps import ROOT, cells, run

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = re.findall(r"ave (?:this|it)\s+as `(\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
FAST = ["--seeds", "1", "--executor", "inline", "--set", "epochs=2", "ap_window=1"]
ONE = ["--methods", "classification", "--holdouts", "3", *FAST]
"""A sweep of one cell on digits."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The page's files by name."""
    for name, text in FILES:
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {name: tmp_path / name for name, _ in FILES}


def digest(name: str) -> str:
    return hashlib.sha256(dict(FILES)[name].encode()).hexdigest()[:8]


def run_of(cell: Path) -> dict:
    return json.loads((cell / "cell.json").read_text())["run"]


def test_the_page_s_plug_ins_work_together(files: dict[str, Path], tmp_path: Path) -> None:
    words = ["shapes", "--plugin", *files.values(), "--methods", "classification", "mirror"]
    words += ["--holdouts", "square", "--detectors", "msp", "margin", "--lambda-trials", "2", *FAST]
    words[words.index("epochs=2")] = "epochs=8"
    done = run(*words, "--name", "all", "--storage", tmp_path, blocked=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AP-Margin" in done.stdout
    found = cells(tmp_path / "all")
    assert sorted(found) == [
        "classification/square/s0", "mirror/square/s0", "mirror/square/search0", "mirror/square/search1",
    ]  # fmt: skip
    for label in ("classification/square/s0", "mirror/square/s0"):
        scores = pq.read_table(found[label] / "scores.parquet")
        logits = scores["logits"].to_pylist()
        assert len(logits) == 120
        for given, row in zip(scores["margin"].to_pylist(), logits, strict=True):
            first, second = sorted(row, reverse=True)[:2]
            assert given == pytest.approx(second - first, abs=1e-12)
        curves = pq.read_table(found[label] / "curves.parquet").to_pylist()
        assert curves[-1]["test/accuracy"] > 0.6, "three shapes are told apart better than by chance"
        if label.startswith("mirror"):
            assert 0 < curves[-1]["aux/mirror_loss"] < 1
    weights = [run_of(found[f"mirror/square/search{n}"])["aux_weights"]["mirror"] for n in (0, 1)]
    assert all(0.05 <= weight <= 5 for weight in weights)
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("margin.py", ["--detectors", "msp", "margin", *ONE]),
        ("mirror.py", ["--methods", "rotation+mirror", "--aux-weight", "0.5", "--holdouts", "3", *FAST]),
        ("shapes.py", ["shapes", "--methods", "classification", "--holdouts", "disc", *FAST]),
    ],
)
def test_each_of_them_works_alone(files: dict[str, Path], tmp_path: Path, name: str, words: list) -> None:
    done = run(*words, "--plugin", files[name], "--storage", tmp_path, "--name", "alone", blocked=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(cells(tmp_path / "alone")) == 1
    again = run("--resume", "--name", "alone", "--storage", tmp_path, "--executor", "inline", blocked=True)
    quoted = "The sweep's plug-ins are code that runs here, as its ledger holds it: {} ({})."
    assert quoted.format("margin.py", digest("margin.py")) in PAGE.splitlines()
    assert again.stdout.splitlines()[0] == quoted.format(name, digest(name))


def test_one_file_may_hold_all(tmp_path: Path) -> None:
    whole = tmp_path / "whole.py"
    whole.write_text("\n".join(text for _, text in FILES))
    words = ["shapes", "--methods", "mirror", "--holdouts", "disc", "--detectors", "margin", "--dry-run"]
    done = run(*words, "--plugin", whole)
    assert done.returncode == 0, done.stderr
    assert "lambda of mirror: searched in 0.05..5" in done.stdout


@pytest.mark.parametrize("quoted", re.findall(r"^Error: --plugin .*$", PAGE, re.MULTILINE))
def test_quoted_refusals_are_what_is_said(files: dict[str, Path], tmp_path: Path, quoted: str) -> None:
    """Each mistake is made in the file, and the sentence is the page's."""
    mistakes = {
        "is not Python": ("def score(self, logits):", "def score(self, logits)"),
        "no method score": ("def score(", "def scores("),
        "needs 'logit'": ('needs = "logits"', 'needs = "logit"'),
        "is taken": ('name = "margin"', 'name = "energy"'),
        "no method loss": ("def loss(", "def losses("),
        "NameError": ("for label in labels]", "for _ in labels]"),
    }
    (before, after) = next(change for words, change in mistakes.items() if words in quoted)
    file = files[re.findall(r"\w+\.py", quoted)[0]]
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))
    words = ["shapes", "--executor", "inline"] if file.name == "shapes.py" else ["--dry-run"]
    refused = run(*words, "--plugin", file, "--storage", tmp_path, blocked=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.strip() == quoted


# The table "files to touch": each is added to a copy of the project, which then runs a sweep.


class Copy:
    """A copy of the project's packages, and the files of it that were touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for package in ("orchestrator", "search_spaces", "trainables"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)

    def add(self, path: str, text: str) -> None:
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text, encoding="utf-8")
        self.touched.add(path)

    def edit(self, path: str, before: str, after: str) -> None:
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, (path, before)
        (self.folder / path).write_text(text.replace(before, after), encoding="utf-8")
        self.touched.add(path)

    def sweep(self, *words: object) -> Path:
        """Run a sweep in the copy, and return its folder."""
        storage = self.folder / "runs"
        done = run(*words, "--storage", storage, "--name", "sweep", blocked=True, folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return storage / "sweep"


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def stated(what: str, name: str = "") -> set[str]:
    """The files that the table states for a row, and their number."""
    (row,) = re.findall(rf"^\| {what} \| (.*) \|$", PAGE, re.MULTILINE)
    files = {path.replace("<name>", name) for path in re.findall(r"`([\w/<>]+\.py)`", row)}
    assert int(row[0]) == len(files)
    return files


def within(name: str) -> str:
    """A file of the page as it stands inside the package."""
    return dict(FILES)[name]


def test_a_detector_takes_one_file(copy: Copy) -> None:
    copy.add("trainables/detectors/margin.py", within("margin.py"))
    assert copy.touched == stated("a detector", "margin")
    (cell,) = cells(copy.sweep(*ONE, "--detectors", "margin")).values()
    assert "margin" in pq.read_table(cell / "scores.parquet").column_names


def test_a_task_takes_one_file_and_its_name_in_a_search_space(copy: Copy) -> None:
    copy.add("trainables/auxiliary/mirror.py", within("mirror.py"))
    assert copy.touched == stated("an auxiliary task", "mirror")
    copy.edit("search_spaces/digits.py", '"rotation", "center-mask")', '"rotation", "mirror", "center-mask")')
    words = ["--methods", "mirror+rotation", "--aux-weight", "0.5", "--holdouts", "3", *FAST]
    assert list(cells(copy.sweep(*words))) == ["rotation+mirror/3/s0"]


def test_a_benchmark_takes_one_file(copy: Copy) -> None:
    text = (ROOT / "search_spaces" / "digits.py").read_text(encoding="utf-8")
    copy.add("search_spaces/numerals.py", text.replace('name="digits"', 'name="numerals"'))
    assert copy.touched == stated("a benchmark", "numerals")
    assert run_of(cells(copy.sweep("numerals", *ONE))["classification/3/s0"])["benchmark"] == "numerals"


def test_a_benchmark_with_a_reader_takes_two(copy: Copy) -> None:
    before, after = within("shapes.py").split("def benchmarks():")
    sources = "def sources(request):\n    return []\n"
    before = before.replace("from search_spaces import Benchmark\n", "")
    copy.add("trainables/data/readers/shapes.py", before + sources)
    imports = "from search_spaces.benchmark import Benchmark\nfrom trainables.recipe import Recipe\n\n\n"
    copy.add("search_spaces/shapes.py", imports + "def benchmarks():" + after.replace(" read,", ' "shapes",'))
    assert copy.touched == stated("a benchmark with a reader of its own", "shapes")
    words = ["shapes", "--methods", "classification", "--holdouts", "disc", *FAST]
    assert list(cells(copy.sweep(*words))) == ["classification/disc/s0"]


def smoothed(copy: Copy) -> None:
    """Add label smoothing as a field of the recipe."""
    copy.edit(
        "trainables/recipe.py",
        "    train_fraction: float = setting(",
        '    smoothing: float = setting(0.0, "of labels", at_least=0, less_than=1, later=True)\n'
        "    train_fraction: float = setting(",
    )
    assert copy.touched == stated("a field of the recipe")
    copy.edit(
        "trainables/train.py",
        'F.cross_entropy(wide, y, reduction="sum")',
        'F.cross_entropy(wide, y, reduction="sum", label_smoothing=self.recipe.smoothing)',
    )


def test_a_field_of_the_recipe_takes_one_file_and_its_use(copy: Copy, tmp_path: Path) -> None:
    smoothed(copy)
    done = run(*ONE, "--storage", tmp_path, "--name", "before", blocked=True)
    assert done.returncode == 0, done.stderr
    (before,) = cells(tmp_path / "before").values()
    (plain,) = cells(copy.sweep(*ONE)).values()
    assert plain.name == before.name, "a cell that leaves it at its default keeps its key"
    assert (plain / "scores.parquet").read_bytes() == (before / "scores.parquet").read_bytes()
    shutil.rmtree(copy.folder / "runs")
    (set_,) = cells(copy.sweep(*ONE, "smoothing=0.1")).values()
    assert set_.name != before.name
    losses = [pq.read_table(cell / "curves.parquet")["train/loss"][0].as_py() for cell in (before, set_)]
    assert losses[1] > losses[0]


def test_a_new_field_of_the_recipe_leaves_old_sweeps_and_names_as_they_are(copy: Copy) -> None:
    smoothed(copy)
    specification = draft(Request()).complete("cpu", tuple("0123456789"))
    code = (
        "import json, sys\n"
        "from orchestrator.planning.request import Request, draft\n"
        "from orchestrator.planning.specification import Specification, check_extends\n"
        "stored = Specification.from_json(json.load(sys.stdin))\n"
        "now = draft(Request()).complete('cpu', tuple('0123456789'))\n"
        "check_extends(now, stored, 'old')\n"
        "print(stored.recipe.smoothing, now.default_name())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(specification.as_json()),
        cwd=copy.folder,
        env={**os.environ, "PYTHONPATH": str(copy.folder)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["0.0", specification.default_name()], done.stderr
    assert Specification.from_json(specification.as_json()) == specification


def test_an_option_takes_two_files(copy: Copy) -> None:
    copy.edit(
        "orchestrator/cli/sweep_options.py",
        '    add("--data", metavar="PATH"',
        '    add("--width", metavar="N", help="the network\'s width")\n    add("--data", metavar="PATH"',
    )
    request = "orchestrator/planning/request.py"
    copy.edit(request, "    workers: int = 1\n", '    workers: int = 1\n    width: str = "1"\n')
    copy.edit(
        request,
        "split_assignments(request.assignments)",
        'split_assignments((*request.assignments, f"width={request.width}"))',
    )
    assert copy.touched == stated("an option of the sweep")
    (cell,) = cells(copy.sweep(*ONE, "--width", "2")).values()
    assert run_of(cell)["recipe"]["width"] == 2

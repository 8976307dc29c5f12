"""A table of the paper by one command: what it would run, what it runs, and the table as far as it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger, sweeps_in
from orchestrator.planning.request import Request
from orchestrator.planning.specification import read_stored
from orchestrator.reporting.paper import published
from orchestrator.reporting.reproduction import assembled, parts, request_of, tables
from orchestrator.reproduce import main
from orchestrator.sweep import main as sweep
from search_spaces import find_benchmark
from tests.hand_made_ledger import finish, finish_all, specification, write_sweep

KINDS = ("dog", "car", "snake", "spider", "fungus")
PLANNED = {
    "2": {"paper-cifar10-none": 10, "paper-stl10-none": 10},
    "3": {"paper-cifar10": 100},
    "4": {"paper-stl10": 100},
    "5": dict(zip([f"paper-imagenet-{kind}" for kind in KINDS], (96, 80, 72, 48, 48), strict=True)),
    "6": dict(zip([f"paper-imagenet-{kind}-cpc" for kind in KINDS], (132, 110, 99, 66, 66), strict=True)),
    "7": {"paper-cifar10": 130},
    "C": {"paper-cifar10-baselines": 10},
}
"""By table its sweeps, and their cells: of 3 seeds, and of searches as the paper made them."""


def hand_made(
    storage: Path, *methods: str, seeds: int = 2, name: str = "paper-cifar10", done: int | None = None
) -> None:
    """Write a sweep of CIFAR-10 of few epochs, of which so many cells are done, or all but so many."""
    classes = find_benchmark("cifar10").classes
    wanted = specification(
        classes,
        benchmark="cifar10",
        methods=methods,
        seeds=seeds,
        protocol="paper",
        assignments=("epochs=3", "ap_window=2"),
    )
    assert classes is not None
    ledger, cells = write_sweep(storage, wanted, name=name, classes=classes)
    for cell in cells.all()[:done]:
        finish(ledger, wanted, cell, classes=classes)


def test_every_number_of_the_paper_is_in_one_part_of_its_table() -> None:
    assert tables() == tuple(PLANNED)
    for table in tables():
        numbers = [number for part in parts(table) for number in part.numbers]
        assert sorted(map(repr, numbers)) == sorted(repr(n) for n in published() if n.table == table)


@pytest.mark.parametrize("table", PLANNED)
def test_a_dry_run_names_the_sweeps_and_their_cost_without_data(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([table, "--dry-run", "--storage", str(tmp_path / "runs"), "--seeds", "3"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if ": not run" not in line and not line.startswith(" ")]
    found = {head.split(":")[0]: int(head.split(": ")[1].split(" cells")[0]) for head in heads}
    assert found == PLANNED[table]
    assert all(head.endswith("FLOPs") for head in heads)
    for said in ("Time: ", "Storage: about ", "This assumes "):
        assert sum(line.startswith(f"  {said}") for line in lines) == len(heads)
    assert last.startswith(f"In all {sum(found.values())} cells, ")
    assert not (tmp_path / "runs").exists()
    commands = [line.split("-m orchestrator.sweep ")[1] for line in lines if "-m orchestrator.sweep " in line]
    assert len(commands) == len(found)
    for command, (name, cells) in zip(commands, found.items(), strict=True):
        assert sweep([*command.split(), "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert f"Plan of sweep {name} " in out
        (total,) = [line for line in out.splitlines() if line.startswith("all ")]
        assert int(total.split()[1]) == cells


def test_image_sets_are_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    sets = ["--ood", f"lsun-crop={tmp_path}/images", "--ood-resize", "crop", "--crops-per-image", "2"]
    assert main(["C", "--dry-run", *sets, "--storage", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "paper-cifar10-baselines-lsun-crop: 2 cells" in out
    assert "--methods pixel-gaussian edge-energy --holdouts none" in out
    assert "paper-cifar10-baselines-isun: not run; name its images with --ood isun=PATH" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["8"], "invalid choice: '8'"),
        ([], "following arguments are required: TABLE"),
        (["3", "--set", "lr=0.1"], "There is no field 'lr'. Did you mean 'learning_rate'?"),
        (["5", "--set", "depth=10"], "depth=10 is not valid: with 4 groups"),
        (["3", "--holdouts", "cat"], "There is no option --holdouts"),
        (["3", "--name", "a b"], "--name 'a b' is no plain word"),
        (["C", "--ood", "isun=/nowhere"], "/nowhere does not exist"),
        (["C", "--ood", "lsun_crop=/x"], "no image set in table C 'lsun_crop'. Did you mean 'lsun-crop'?"),
        (["3", "--ood", "isun=/x"], "--ood isun=/x has no use: table 3 has no image sets; leave it out."),
        (["3", "--executor", "inline", "--address", "auto"], "--address has no use with --executor inline"),
    ],
)
def test_mistakes_are_said_before_any_work(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--storage", str(tmp_path / "runs")]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


def test_a_table_whose_sweeps_fail_says_of_each_why_and_is_no_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, empty = tmp_path / "runs", tmp_path / "empty"
    empty.mkdir()
    words = ["2", "--data", str(empty), "--storage", str(storage), "--executor", "inline"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "Sweep 2 of 2 for table 2: paper-stl10-none" in printed.out
    assert [line[:24] for line in printed.err.splitlines()] == [
        "Error: CIFAR-10 is not i", "Error: STL-10 is not in ",
    ]  # fmt: skip
    text = (storage / "reproduce-2" / "table.md").read_text()
    assert text in printed.out
    assert "| cifar10 | paper |            95.87 ± 0.05 |      96.54 ± 0.08 |" in text
    assert (
        "- cifar10: all of classification, rotation (sweep paper-cifar10-none was not begun: CIFAR-10" in text
    )
    assert sweeps_in(str(storage)) == []


def test_the_table_has_the_paper_s_numbers_and_ours_below_and_names_what_departs(tmp_path: Path) -> None:
    hand_made(tmp_path, "classification", "rotation")
    text, whole = assembled("3", "paper", str(tmp_path), {})
    assert whole
    assert "## Missing" not in text
    doubtful, whole = assembled("3", "paper", str(tmp_path), {"paper-cifar10": "the firewall did not hold"})
    assert not whole
    assert "certainty, since the sweep did not end well: the firewall did not hold" in doubtful
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    at = [" ".join(cell.split()) for cell in rows[0]].index("rotation AP-MSP")
    place = next(i for i, row in enumerate(rows) if row[1].strip() == "cat")
    assert [row[at].strip() for row in rows[place : place + 2]] == ["53.12 ± 0.92", "35.50 ± 0.71"]
    assert "epochs 3 (paper: 200)" in text
    assert "seeds 2 (paper: 3)" in text


def test_what_is_not_done_is_named_with_the_reason(tmp_path: Path) -> None:
    hand_made(tmp_path, "classification", "rotation", done=-1)
    text, whole = assembled("3", "paper", str(tmp_path), {"paper-cifar10": "see there"})
    assert not whole
    assert "- cifar10: some of the seeds (" in text
    assert "rotation AP-MSP" in text
    assert text.count("| - ") == 0, "every number is there, one over fewer seeds"
    text, whole = assembled("7", "paper", str(tmp_path), {"paper-cifar10": "see there"})
    assert not whole
    assert "cifar10: center-mask (average) (" in text
    assert "of sweep paper-cifar10 are done: see there)" in text
    text, whole = assembled("6", "paper", str(tmp_path), {})
    assert text.count("was not begun") == 5
    assert "## Sweeps" not in text


def test_the_network_of_another_table_is_not_taken_for_its_own(tmp_path: Path) -> None:
    classes = find_benchmark("imagenet-spider").classes
    assert classes is not None
    wanted = specification(classes, benchmark="imagenet-spider", assignments=("epochs=2", "ap_window=1"))
    ledger, cells = write_sweep(tmp_path, wanted, name="paper-imagenet-spider-cpc", classes=classes)
    finish_all(ledger, wanted, cells, classes=classes)
    text, _ = assembled("6", "paper", str(tmp_path), {})
    assert "imagenet-spider: all of classification, cpc" in text


def test_a_sweep_that_tables_share_keeps_what_the_other_asked_for(tmp_path: Path) -> None:
    hand_made(tmp_path, "classification", "rotation", "center-mask", seeds=5, done=1)
    (part,) = parts("3")
    asked = Request(storage=str(tmp_path), seeds=3, given=frozenset({"seeds"}))
    request = request_of(part, asked, "paper")
    assert request is not None
    assert set(request.methods) == {"classification", "rotation", "center-mask"}
    assert request.seeds == 5
    fresh = request_of(part, asked, "mine")
    assert fresh is not None
    assert (fresh.name, fresh.methods, fresh.seeds) == ("mine-cifar10", ("classification", "rotation"), 3)


@pytest.mark.slow
def test_a_reduced_table_is_run_gone_on_with_and_assembled(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["depth=28", "width=1", "image_size=8", "epochs=1", "train_fraction=0.01", "batch_size=64"]
    words = ["--data", str(shared_data), "--storage", str(tmp_path), "--executor", "inline", "--set", *small]
    words = ["2", "--seeds", "1", *words, "lambda_trials=1"]
    assert main(words) == 1, "the folder has no STL-10"
    text = (tmp_path / "reproduce-2" / "table.md").read_text()
    assert (
        "- stl10: all of classification, rotation (sweep paper-stl10-none was not begun: STL-10 is not"
        in text
    )
    assert "- 3 of 3 cells of sweep paper-cifar10-none are done; departs from the paper in width 1" in text
    ours = text.splitlines()[5].split("|")
    assert [row.strip() for row in ours[1:3]] == ["", "ours"]
    accuracies = [float(entry) for entry in ours[3:5]]
    assert all(5 < accuracy < 60 for accuracy in accuracies)
    assert sweeps_in(str(tmp_path)) == ["paper-cifar10-none"]
    assert read_stored(Ledger(str(tmp_path), "paper-cifar10-none")).specification.protocol == "paper"
    capsys.readouterr()
    assert main(words) == 1
    assert "Going on with sweep paper-cifar10-none: 3 of 3 cells are done." in capsys.readouterr().out
    assert (tmp_path / "reproduce-2" / "table.md").read_text() == text

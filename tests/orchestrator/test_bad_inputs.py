"""Whatever is asked wrongly, or found damaged, gets one sentence; nothing is written, and nothing is lost."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.specification import read_stored
from tests.plugins import forget
from trainables.mistake import Mistake

World = Path
"""A folder with the storage runs/, in which one small sweep, `done`, is complete."""


@dataclass(frozen=True)
class Case:
    """A command that must be refused, what the sentence must say, and what was spoilt before."""

    command: str
    """Words separated by blanks, the command first; {here} is the world's folder."""
    said: str
    spoil: Callable[[World], None] | None = None
    code: int = 2

    def __str__(self) -> str:
        spoilt = f" after {self.spoil.__name__}" if self.spoil else ""
        return f"{self.command[:70]}{spoilt}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = tmp_path_factory.mktemp("world")
    words = "--methods classification --holdouts 3 --seeds 1 --set epochs=1 --executor inline --name done"
    place = ["--storage", str(world / "runs"), "--tracking-uri", f"sqlite:///{world}/records.db"]
    assert import_module("orchestrator.sweep").main([*words.split(), *place]) == 0
    return world


@pytest.fixture
def world(finished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    here = tmp_path / "here"
    shutil.copytree(finished, here)
    monkeypatch.chdir(here)
    return here


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def refusal(capsys: pytest.CaptureFixture[str], world: World, case: Case) -> str:
    """Run a case's command; return what it printed, having checked that it refused and changed nothing."""
    if case.spoil is not None:
        case.spoil(world)
    before = content(world)
    capsys.readouterr()
    command, *words = (word.replace("{here}", str(world)) for word in case.command.split(" "))
    assert import_module(f"orchestrator.{command}").main(words) == case.code
    assert content(world) == before
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    (line,) = (line for line in printed.err.strip().splitlines() if not line.endswith(" ..."))  # a step
    assert line.startswith("Error: ")
    return line


def stating(place: str, value: Any) -> Callable[[World], None]:
    """Make sweep.json say something else at a place such as specification.seeds; ... leaves it out."""

    def spoil(world: World) -> None:
        file = world / "runs" / "done" / "sweep.json"
        values = json.loads(file.read_text())
        *folders, name = place.split(".")
        held = functools.reduce(lambda inner, key: inner[key], folders, values)
        held[name] = value
        if value is ...:
            del held[name]
        values.pop("digest", None)  # somebody who edits the file may know how it is made
        file.write_text(json.dumps(values))

    spoil.__name__ = f"{place}={value!r}"[:60]
    return spoil


def holding(file: str, data: bytes) -> Callable[[World], None]:
    """Put other content into a file below the storage."""

    def spoil(world: World) -> None:
        (world / "runs" / file).parent.mkdir(parents=True, exist_ok=True)
        (world / "runs" / file).write_bytes(data)

    spoil.__name__ = f"{file}={data[:20]!r}"
    return spoil


TYPED = [
    Case("sweep --search nosuch=0.1..0.3", "There is no field to search 'nosuch'; valid: batch_size, "),
    Case("sweep --search epochs=5..10", "epochs is not searched, since it changes the data, the network, "),
    Case("sweep --search width=1,2", "width is not searched, since it changes"),
    Case("sweep --search learning_rate=0.3..0.1", "its first number must be below its second"),
    Case("sweep --search dropout=log:0..0.5", "cannot be searched on a log scale, which has no 0"),
    Case("sweep --search learning_rate=0.1", "set one value with --set learning_rate=0.1"),
    Case("sweep --search flip=0..1", "flip takes true or false: give a list"),
    Case("sweep --search learning_rate=odd:0.1..0.2", "has no scale 'odd': write log: or linear:"),
    Case("sweep --search learning_rate=0.1,0.1", "lists a value twice"),
    Case("sweep --search learning_rate", "--search takes key=value pairs, such as learning_rate=0.01..0.3"),
    Case("sweep --search momentum=0..1", "momentum=1 is not valid"),
    Case(
        "sweep --search batch_size=16..32 --set micro_batch=16",
        "micro_batch=16 does not divide batch_size=17",
    ),
    Case("sweep --search momentum=0..0.9 --set momentum=0.5", "contradict each other"),
    Case("sweep --search-seeds 0", "--search-seeds 0 is not valid: give a whole number from 1"),
    Case("sweep --search-seeds 2 --methods classification", "this sweep searches nothing"),
    Case("sweep --halving 1", "--halving 1 is not valid: give a whole number from 2"),
    Case("sweep --halving 10", "--halving 10 has no use with 4 trials in a study"),
    Case("sweep --halving 2 --set epochs=2", "rungs after epochs 1, 1, 2, which are not all different"),
    Case("sweep --halving 2 --aux-weight 0.5", "--halving has no use: this sweep searches nothing"),
    Case("sweep --choose one-se", "--choose one-se needs the spread over seeds: add --search-seeds 3"),
    Case("sweep --choose smoothed --halving 2", "--halving trains little of it to the end"),
    Case("sweep --choose one-se --halving 2 --search-seeds 2", "--halving trains little of it to the end"),
    Case(
        "sweep --lambda-trials 5 --search decay=all,weights --methods classification",
        "--lambda-trials 5 cannot be had: with --search every method has as many trials, and the lists of "
        "one have 2 combinations",
    ),
    Case(
        "sweep imagenet-dog --protocol paper --methods rotation+cpc",
        "--protocol paper is not known for rotation+cpc: the paper chose lambdas of its tasks in",
    ),
    Case("sweep --choose smoothed --search dropout=0..0.5", "searches lambda.rotation, dropout"),
    Case(
        "sweep --choose smoothed --search decay=all,weights --methods classification",
        "orders what was tried by its size, which decay has not",
    ),
    Case("sweep --protocol paper", "--protocol paper is not known for digits"),
    Case("sweep cifar10 --protocol paper --methods classification", "which no method here has"),
    Case("sweep cifar10 --protocol paper --select benchmark", "and --select says it otherwise"),
    Case("sweep cifar10 --protocol paper --halving 2", "and --halving says it otherwise"),
    Case("report ../done", "NAME '../done' is no plain word"),
    Case("report done/../done", "NAME 'done/../done' is no plain word"),
    Case("report ..", "NAME '..' is no plain word"),
    Case("report /etc", "NAME '/etc' is no plain word"),
    Case("report dóne", "NAME 'dóne' is no plain word"),
    Case("score ../done --detectors energy", "NAME '../done' is no plain word"),
    Case("report done --storage ", "--storage was given '', which is empty"),
    Case("sweep --storage= --executor inline", "--storage was given '', which is empty"),
    Case("sweep --data ", "--data was given '', which is empty"),
    Case("sweep --tracking-uri ", "--tracking-uri was given '', which is empty"),
    Case("baseline pixel-gaussian --cache=", "--cache was given '', which is empty"),
    Case("doctor --storage=", "--storage was given '', which is empty"),
    Case(
        "sweep --set epochs=1000001", "epochs=1000001 is not valid: epochs (passes over the training images)"
    ),
    Case(f"sweep --set epochs={'9' * 400}", "takes a whole number from 1 to 1000000"),
    Case(f"sweep --set epochs={'9' * 5000}", "takes a whole number from 1 to 1000000"),
    Case("sweep --set batch_size=10000001", "takes a whole number from 2 to 10000000"),
    Case("sweep --set lambda_trials=10001", "takes a whole number from 1 to 10000"),
    Case("sweep --set search_round=10001", "takes a whole number from 1 to 10000"),
    Case("sweep --set retries=-1", "takes a whole number from 0 to 1000000"),
    Case("sweep --set checkpoint_seconds=1e10", "takes a number from 0 to 1000000000"),
    Case(
        f"sweep --set sweep_seed={2**128}",
        "takes a whole number from 0 to 340282366920938463463374607431768211455",
    ),
    Case(
        "sweep --cpus-per-worker 1e300", "--cpus-per-worker 1e300 is not valid: give a number from 0 to 10000"
    ),
    Case("sweep --gpus-per-worker -1", "--gpus-per-worker -1 is not valid: give a number from 0 to 10000"),
    Case("sweep --crops-per-image 10001 --ood-resize crop", "--crops-per-image 10001 is not valid"),
    Case("sweep --method rotation", "There is no option --method: --methods may be meant"),
    Case("sweep --seed 3", "There is no option --seed: --seeds may be meant"),
    Case("sweep --lr 0.1", "There is no option --lr: --set learning_rate=VALUE may be meant"),
    Case("sweep --batch-size=8", "There is no option --batch-size: --set batch_size=8 may be meant"),
    Case("sweep digits lr=0.1", "'lr=0.1' belongs to no option: --set learning_rate=0.1 may be meant"),
    Case("sweep epochs=3", "'epochs=3' belongs to no option: --set epochs=3 may be meant"),
    Case("report done --storge runs", "There is no option --storge: --storage may be meant; see "),
    Case("sweep CIFAR10", "There is no benchmark 'CIFAR10'. Did you mean 'cifar10'?"),
    Case("sweep --set lr=0.1", "There is no field 'lr'. Did you mean 'learning_rate'?"),
    Case("sweep --set WD=0", "There is no field 'WD'. Did you mean 'weight_decay'?"),
    Case("sweep --set bs=8", "There is no field 'bs'. Did you mean 'batch_size'?"),
    Case("sweep --search lr=0.1..0.2", "There is no field to search 'lr'. Did you mean 'learning_rate'?"),
    Case("sweep --methods Rotation", "There is no method 'Rotation'. Did you mean 'rotation'?"),
    Case("sweep --holdouts 3,8", "no class to hold out '3,8': separate with spaces, without commas: 3 8."),
    Case("sweep --holdouts 3, 8", "separate with spaces, without commas: 3."),
    Case("sweep --methods classification,rotaton", "without commas: classification rotation."),
    Case("sweep --detectors msp,odin", "without commas: msp odin."),
    Case("score done --detectors msp,knn", "without commas: msp knn."),
    Case("sweep --set epochs=3,lr=0.1", "separate with spaces, without commas: epochs=3 lr=0.1."),
    Case(
        "sweep --search dropout=0,0.1,decay=all,weights",
        "separate with spaces, without commas: dropout=0,0.1 decay=all,weights.",
    ),
    Case("sweep --aux-weight 0.1,0.5", "separate with spaces: --aux-weight 0.1 0.5."),
    Case("sweep --holdouts 3 --holdouts 3", "--holdouts names '3' twice"),
    Case("sweep --methods rotation --methods rotation", "--methods names 'rotation' twice"),
    Case("sweep --set epochs=3 --set epochs=4", "--set gives epochs twice"),
    Case(
        "sweep --holdouts 3 --executor inline --set batch_size=969",
        "batch_size=969 is more than the 968 training images of a cell: set batch_size to 968 or less.",
    ),
    Case("sweep --dry-run --workers 2 --set batch_size=600", "batch_size=600 x 2 workers is more than"),
    Case("sweep --resume --name gone", "no sweep 'gone' in {here}/runs; sweeps there: done. If it is"),
    Case("report gone", "no sweep 'gone' in {here}/runs; sweeps there: done. If it is elsewhere, say where"),
    Case("sweep --ood-seed 1e3", "--ood-seed 1e3 is not valid: give a whole number from 0 to 999999999"),
]


@pytest.mark.parametrize("case", TYPED, ids=str)
def test_what_is_typed(capsys: pytest.CaptureFixture[str], world: World, case: Case) -> None:
    assert case.said.replace("{here}", str(world)) in refusal(capsys, world, case)


REPORT, RESUME, SCORE = (
    "report done",
    "sweep --resume --name done --executor inline",
    "score done --detectors energy",
)

SPECIFIED = [
    Case(REPORT, "specification.halving is -1, where", stating("specification.halving", -1)),
    Case(REPORT, "epochs is not searched", stating("specification.search", {"epochs": "1..2"})),
    Case(REPORT, "search.dropout is 5, where text", stating("specification.search", {"dropout": 5})),
    Case(REPORT, 'starts is "odd", where one of', stating("specification.starts", "odd")),
    Case(RESUME, 'choose is "worst", where one of', stating("specification.choose", "worst")),
    Case(REPORT, "search_seeds is 0, where", stating("specification.search_seeds", 0)),
    Case(
        REPORT,
        'specification.seeds is "two", where a whole number belongs',
        stating("specification.seeds", "two"),
    ),
    Case(RESUME, "specification.seeds is null, where a whole number", stating("specification.seeds", None)),
    Case(SCORE, "specification.seeds is true, where a whole number", stating("specification.seeds", True)),
    Case(REPORT, "specification.seeds is 0, where a whole number from 1", stating("specification.seeds", 0)),
    Case(REPORT, "specification.seeds is 1000000000000, where", stating("specification.seeds", 10**12)),
    Case(REPORT, "specification.recipe is [], where an object belongs", stating("specification.recipe", [])),
    Case(
        RESUME,
        'recipe.epochs is "many", where a whole number',
        stating("specification.recipe.epochs", "many"),
    ),
    Case(RESUME, "epochs=-1 is not valid", stating("specification.recipe.epochs", -1)),
    Case(
        REPORT, "specification.recipe.mixup is 0.2, where nothing", stating("specification.recipe.mixup", 0.2)
    ),
    Case(REPORT, "specification.recipe is null, where an object", stating("specification.recipe", ...)),
    Case(
        REPORT,
        'methods is "classification", where a list',
        stating("specification.methods", "classification"),
    ),
    Case(REPORT, "specification.methods[0] is 3, where text", stating("specification.methods", [3])),
    Case(REPORT, "specification.methods is [], where a list of", stating("specification.methods", [])),
    Case(REPORT, 'methods is ["a", "a"], where a list of', stating("specification.methods", ["a", "a"])),
    Case(RESUME, 'specification.holdouts is "11", where one of', stating("specification.holdouts", ["11"])),
    Case(RESUME, 'holdouts is {"3": 3}, where a list', stating("specification.holdouts", {"3": 3})),
    Case(REPORT, 'select is "best", where one of holdout', stating("specification.select", "best")),
    Case(REPORT, 'device is "tpu", where one of cpu, cuda', stating("specification.device", "tpu")),
    Case(REPORT, "spaces.rotation is 5, where text", stating("specification.spaces", {"rotation": 5})),
    Case(
        REPORT, "'5..0.05' is no space for lambda", stating("specification.spaces", {"rotation": "5..0.05"})
    ),
    Case(RESUME, "classes[1] is 7, where text", stating("classes", ["3", 7])),
    Case(REPORT, "classes is [], where a list of different words", stating("classes", [])),
    Case(REPORT, "fingerprint is 7, where text", stating("fingerprint", 7)),
    Case(SCORE, "data is 7, where text or null", stating("data", 7)),
    Case(RESUME, "conduct is 7, where an object", stating("conduct", 7)),
    Case(RESUME, "retries=-1 is not valid", stating("conduct.retries", -1)),
    Case(REPORT, 'conduct.detectors is "msp", where a list', stating("conduct.detectors", "msp")),
    Case(REPORT, "detectors.new is null, where an object", stating("conduct.detectors", ["msp", "new"])),
    Case(REPORT, "detectors.msp.label is 7, where text", stating("detectors.msp.label", 7)),
    Case(SCORE, "conduct.image_sets[0].name is null", stating("conduct.image_sets", [{}])),
    Case(
        REPORT,
        'conduct.image_sets.name is "../up", where',
        stating("conduct.image_sets", [{"name": "../up", "path": "x"}]),
    ),
    Case(SCORE, "plugins is [], where an object", stating("plugins", [])),
    Case(
        RESUME,
        'plugins.a.py is "../../x", where the digest of a source',
        stating("plugins", {"a.py": "../../x"}),
    ),
    Case(REPORT, "give the sweep's whole command line again", holding("done/sweep.json", b"")),
    Case(RESUME, "give the sweep's whole command line again", holding("done/sweep.json", b"{")),
    Case(SCORE, "give the sweep's whole command line again", holding("done/sweep.json", b"[]")),
    Case(REPORT, "give the sweep's whole command line again", holding("done/sweep.json", b"\xff\xfe")),
    Case(RESUME, "give the sweep's whole command line again", holding("done/sweep.json", b"[" * 100_000)),
    Case(REPORT, "specification is null, where an object belongs", holding("done/sweep.json", b"{}")),
]


@pytest.mark.parametrize("case", SPECIFIED, ids=str)
def test_what_sweep_json_says(capsys: pytest.CaptureFixture[str], world: World, case: Case) -> None:
    said = refusal(capsys, world, case)
    assert case.said in said
    assert str(world / "runs" / "done" / "sweep.json") in said


def test_no_value_anywhere_in_sweep_json_gives_a_traceback(world: World) -> None:
    file = world / "runs" / "done" / "sweep.json"
    ledger, original = Ledger(str(world / "runs"), "done"), file.read_text()
    refused = []
    for place in places(json.loads(original)):
        for value in (None, "", -1, 10**30, float("nan"), [[]], {"x": None}, ...):
            stating(place, value)(world)
            try:
                stored = read_stored(ledger)
                lay_out(stored.specification, stored.fingerprint).all()
            except Mistake as mistake:
                refused.append(str(mistake))
            file.write_text(original)
    assert len(refused) > 250
    assert all(str(file) in sentence for sentence in refused)


def places(values: dict[str, Any], within: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found.append(f"{within}{name}")
        if isinstance(value, dict):
            found += places(value, f"{within}{name}.")
    return found


INLINE = "--executor inline --storage {here}/runs"
DETECTOR = (
    "from trainables.detectors import Detector\n"
    "class A(Detector):\n    name = '{name}'\n    needs = '{needs}'\n"
)
SCORE_OF = "    def score(self, logits): return logits\n"


def plugin(text: str, name: str = "mine.py") -> Callable[[World], None]:
    """Write a plug-in."""

    def spoil(world: World) -> None:
        (world / name).write_text(text)

    spoil.__name__ = repr(text[-40:])
    return spoil


def no_database(world: World) -> None:
    (world / "records.db").write_text("this is text and no database, " * 99)


def an_unknown_method(world: World) -> None:
    stating("specification.methods", ["nope"])(world)
    stating("specification.spaces", {"nope": "1..2"})(world)


def a_folder_for_a_file(world: World) -> None:
    file = world / "runs" / "done" / "sweep.json"
    file.unlink()
    file.mkdir()


OTHERS = [
    *(
        Case(f"sweep --plugin {{here}}/mine.py {INLINE}", said, plugin(text))
        for text, said in (
            ("def (", "--plugin mine.py, line 1, is not Python"),
            ("\0", "--plugin mine.py is not Python (source code string cannot contain null bytes"),
            ("raise RuntimeError('no')", "line 1, cannot be imported (RuntimeError: no)"),
            ("import sys; sys.exit(3)", "line 1, cannot be imported (SystemExit: 3)"),
            ("import nosuchmodule", "No module named 'nosuchmodule'"),
            ("def f(): f()\nf()", "RecursionError"),
            ("x = 1", "defines nothing"),
            ("benchmarks = 3", "cannot give its benchmarks"),
            ("def benchmarks(): return 3", "must return a dictionary"),
            (DETECTOR.format(name="msp", needs="logits") + SCORE_OF, "has the name 'msp', which is taken"),
            (DETECTOR.format(name="../x", needs="logits") + SCORE_OF, "needs a class attribute name"),
            (DETECTOR.format(name="a", needs="pixels") + SCORE_OF, "needs 'pixels'; what it can need"),
            (DETECTOR.format(name="a", needs="logits"), "has no method score"),
        )
    ),
    Case(f"sweep --plugin {{here}}/mine.py {{here}}/mine.py {INLINE}", "names 'mine.py' twice", plugin("")),
    Case(f"sweep --plugin /nowhere.py {INLINE}", "--plugin /nowhere.py does not exist"),
    Case(f"{RESUME} --tracking-uri ./mlruns {INLINE}", "The tracking URI ./mlruns names a folder"),
    Case(f"{RESUME} --tracking-uri file:///mlruns {INLINE}", "URI file:///mlruns names a folder"),
    Case(f"{RESUME} --tracking-uri sqlite:// {INLINE}", "The tracking URI sqlite:// names no file"),
    Case(f"{RESUME} --tracking-uri sqlite:///{{here}} {INLINE}", "names no file"),
    Case(
        f"{REPORT} --rebuild-tracking --tracking-uri nosuch://", "The tracking URI nosuch:// cannot be used"
    ),
    Case(
        f"{REPORT} --rebuild-tracking --tracking-uri sqlite:///{{here}}/records.db",
        "not a database",
        no_database,
    ),
    Case(f"{SCORE} --tracking-uri sqlite:///{{here}}/records.db", "file is not a database", no_database),
    Case(f"sweep cifar10 --data {{here}} {INLINE}", "is not in {here}"),
    Case(f"sweep image-folder --data {{here}}/records.db {INLINE}", "is a file of no known kind"),
    Case(f"sweep image-folder --data /nowhere {INLINE}", "/nowhere does not exist"),
    Case(f"sweep --cache /dev/null {INLINE}", "The folder for prepared data, /dev/null, cannot be used"),
    Case("sweep --executor inline --storage /dev/null/x", "The storage /dev/null/x cannot be written"),
    Case("sweep --executor inline --storage ftp://x", "The storage 'ftp://x' is not valid"),
    Case(f"sweep --name done {INLINE}", "epochs 1 (asked: 10)"),
    Case(
        f"sweep --resume --name gone {INLINE}", "There is no sweep 'gone' in {here}/runs; sweeps there: done"
    ),
    Case(
        "baseline pixel-gaussian --set epochs=2 --storage {here}/runs",
        "--set takes image_size, train_fraction",
    ),
    Case(f"{REPORT} --storage {{here}}/records.db", "There is no sweep 'done'"),
    Case(REPORT, "There is no sweep 'done'", a_folder_for_a_file),
    Case(RESUME, "There is no sweep 'done'", a_folder_for_a_file),
    Case(REPORT, "is of the sweep that its sweep.json describes", stating("fingerprint", "0" * 64)),
    Case(RESUME, "was begun on other data", stating("fingerprint", "0" * 64)),
    Case(RESUME, "There is no benchmark 'nope'", stating("specification.benchmark", "nope")),
    Case(RESUME, "a space for edge belongs", stating("specification.methods", ["edge"])),
    Case(RESUME, "There is no method 'nope'", an_unknown_method),
    Case("ui ../done --no-browser", "NAME '../done' is no plain word"),
    Case("ui done --no-browser --port 65536", "--port 65536 is not valid: give a whole number from 0"),
    Case("ui done --no-browser --port x", "--port x is not valid: give a whole number from 0"),
    Case("status ../done", "NAME '../done' is no plain word"),
    Case("status done --watch --json", "--watch has no use with --json"),
]


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_plug_ins_data_records_and_ledgers(
    capsys: pytest.CaptureFixture[str], world: World, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    forget(monkeypatch)
    assert case.said.replace("{here}", str(world)) in refusal(capsys, world, case)


def test_there_are_80_different_ones() -> None:
    assert len({str(case) for case in (*TYPED, *SPECIFIED, *OTHERS)}) >= 80

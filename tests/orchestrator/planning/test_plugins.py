"""Plug-ins: what is refused and in which words, what is executed when, and which keys they enter."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.plugins import Plugin, load, load_with_stored, read_plugin
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification
from orchestrator.sweep import main
from search_spaces import find_benchmark
from tests.hand_made_ledger import specification, write_sweep
from tests.plugins import BENCHMARK, DETECTOR, MARK, TASK, WHOLE, forget
from trainables.auxiliary import TASKS
from trainables.detectors import DETECTORS
from trainables.mistake import Mistake

DIGITS = tuple("0123456789")


@pytest.fixture(autouse=True)
def none_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test brings ends with it."""
    forget(monkeypatch)


def changed(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1
    return text.replace(before, after)


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


def said_of(text: str, file: str = "mine.py") -> str:
    """The sentence with which a plug-in is refused."""
    with pytest.raises(Mistake) as refused:
        load([Plugin(file, text)])
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_its_classes_are_found_like_any_others() -> None:
    digest = hashlib.sha256(WHOLE.encode()).hexdigest()
    assert load([Plugin("mine.py", WHOLE)]) == {"negative": digest, "shades": digest}
    assert (TASKS.names[-1], DETECTORS.names[-1]) == ("negative", "norm")
    assert str(TASKS.find("negative").space) == "0.1..3"
    assert DETECTORS.find("norm").label == "Norm"
    assert find_benchmark("shades").recipe.image_size == 8


def test_a_process_executes_it_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLUGIN_MARK", str(tmp_path / "mark"))
    for _ in range(3):
        load([Plugin("mine.py", WHOLE)])
    assert (tmp_path / "mark").read_text() == "executed\n"


@pytest.mark.parametrize(
    ("text", "before", "after", "at", "words"),
    [
        (DETECTOR, "def score(self, features, logits):", "def score(self, features, logits)", "def score",
         "is not Python (expected ':')"),
        (DETECTOR, "def score(", "def judge(", "class Norm", "class Norm has no method score"),
        (DETECTOR, "(self, features, logits)", "(self, logits)", "class Norm",
         "class Norm needs a method score(self, features, logits)"),
        (DETECTOR, '"features"', '["features"]', "class Norm", "class Norm needs ['features']; what it can"),
        (DETECTOR, '    name = "norm"\n', "", "class Norm", "class Norm needs a class attribute name"),
        (DETECTOR, '"norm"', '"my_norm"', "class Norm", "class Norm needs a class attribute name"),
        (DETECTOR, '"norm"', '"logits"', "class Norm", "class Norm needs a class attribute name"),
        (DETECTOR, '"norm"', '"energy"', "class Norm", "class Norm has the name 'energy', which is taken"),
        (DETECTOR, '"norm"', '"rotation"', "class Norm", "the name 'rotation', which is taken"),
        (DETECTOR, '"norm"', '"edge-energy"', "class Norm", "has the name 'edge-energy', which is taken"),
        (DETECTOR, '"Norm"', '"MSP"', "class Norm", "class Norm has the label 'MSP', which is taken"),
        (DETECTOR, '    label = "Norm"', "    gradients = True", "class Norm",
         "class Norm has gradients, which only a detector that needs 'network' is given"),
        (DETECTOR, "    def score", "    def __init__(self, k): ...\n\n    def score", "class Norm",
         "class Norm cannot be made without arguments"),
        (TASK, "def build(", "def make(", "class Negative", "class Negative has no method build"),
        (TASK, "(self, network, recipe)", "(self, network)", "class Negative",
         "class Negative needs a method build(self, network, recipe)"),
        (TASK, "LogUniform(0.1, 3.0)", "(0.1, 3.0)", "class Negative",
         "class Negative needs a class attribute space"),
        (TASK, "    def build", "    def __init__(self, k): ...\n\n    def build", "class Negative",
         "class Negative cannot be made without arguments"),
        (TASK, "def loss(", "def cost(", "class Judge", "class Judge has no method loss"),
        (DETECTOR, "from trainables.detectors import", "from trainables.detector import", "from trainables",
         "cannot be imported (ModuleNotFoundError: No module named 'trainables.detector')"),
        (MARK, "import os\n", "import os, sys\n\nsys.exit(3)\n", "sys.exit(3)", "(SystemExit: 3)"),
        (BENCHMARK, "depth=10", "depth=11", "    recipe = ", "cannot give its benchmarks (Mistake: depth=11"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, before: str, after: str, at: str, words: str) -> None:
    number = line_of(changed(text, before, after), at)
    said = said_of(changed(text, before, after))
    assert said.startswith(f"--plugin mine.py, line {number}")
    assert words in said
    assert said.endswith("correct it.")
    assert (TASKS.names, DETECTORS.names) == (TASKS.built_in, DETECTORS.built_in)


def test_what_has_no_line_is_told_without() -> None:
    assert said_of(MARK).startswith("--plugin mine.py defines nothing: derive a class from trainables.det")
    assert said_of("x = '\0'").startswith("--plugin mine.py")
    assert "must return a dictionary" in said_of(changed(BENCHMARK, "return {", "return [{") + "]")
    taken = changed(BENCHMARK, '"shades": Benchmark("shades"', '"digits": Benchmark("digits"')
    assert said_of(taken) == "The benchmark 'digits' exists already: choose another name for it."


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "image.py").write_bytes(b"\x89PNG\xff")
    for name, words in (("none.py", "does not exist"), ("image.py", "cannot be read"), (".", "cannot be")):
        with pytest.raises(Mistake, match=words):
            read_plugin(str(tmp_path / name))


def test_a_mark_at_the_beginning_and_a_second_name_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{DETECTOR}\n\nSame = Norm\n", encoding="utf-8-sig")
    load([read_plugin(str(tmp_path / "mine.py"))])
    assert DETECTORS.names[-1] == "norm"


def test_it_is_compiled_as_python_does_by_itself() -> None:
    """Annotations are values there, as in any file that does not ask for anything else."""
    text = f"def seen(x: int): ...\n\n\nassert seen.__annotations__ == {{'x': int}}\n\n{DETECTOR}"
    load([Plugin("mine.py", text)])
    assert DETECTORS.find("norm").needs == "features"


def test_two_of_one_file_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.py").write_text(DETECTOR)
    with pytest.raises(Mistake, match=r"--plugin names 'mine.py' twice"):
        draft(Request(plugins=(str(tmp_path / "mine.py"), str(tmp_path / "other" / "mine.py"))))


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ("def flops(self, recipe):\n        return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def check_fits(self, recipe):\n        recipe.nothing", "AttributeError: 'Recipe' object has no"),
    ],
)
def test_an_error_in_what_a_plan_asks_of_a_task_is_a_sentence(
    added: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(changed(TASK, "    def build", f"    {added}\n\n    def build"))
    assert main(["--plugin", str(file), "--methods", "negative", "--dry-run"]) == 2
    said = capsys.readouterr()
    number = line_of(file.read_text(), added.splitlines()[1].strip())
    assert said.err.startswith(f"Error: --plugin mine.py, line {number}, failed ({words}")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_a_task_s_own_mistake_is_said_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    check = "def check_fits(self, recipe):\n        raise Mistake('negative does not fit.')\n\n    def build"
    file.write_text("from trainables.mistake import Mistake\n" + changed(TASK, "def build", check))
    assert main(["--plugin", str(file), "--methods", "negative", "--dry-run"]) == 2
    assert capsys.readouterr().err == "Error: negative does not fit.\n"


# Keys and names


def planned(folder: Path, text: str | None, benchmark: str = "digits", *methods: str) -> Specification:
    plugins: tuple[str, ...] = ()
    if text is not None:
        (folder / "mine.py").write_text(text)
        plugins = (str(folder / "mine.py"),)
    request = Request(benchmark, methods=methods or ("classification", "rotation"), plugins=plugins)
    return draft(request).complete("cpu", DIGITS if benchmark == "digits" else ("a", "b", "c", "d"))


def keys(specification: Specification) -> dict[tuple, str]:
    cells = lay_out(specification, "fingerprint").all()
    return {(c.method, c.phase, c.holdout, c.seed, c.search_index): c.key for c in cells}


def test_a_plug_in_changes_no_key_and_no_name_of_what_it_does_not_define(tmp_path: Path) -> None:
    without = planned(tmp_path, None)
    beside = planned(tmp_path, WHOLE)
    assert beside.plugins == {}
    assert keys(beside) == keys(without)
    assert beside.default_name() == without.default_name()
    assert beside.as_json() == without.as_json()


def test_the_digest_is_in_the_keys_of_its_task_s_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("classification", "rotation", "negative", "rotation+negative")
    found = []
    for text in (TASK, TASK + "# edited\n"):
        with monkeypatch.context() as context:
            forget(context)
            found.append(planned(tmp_path, text, "digits", *methods))
    assert found[0].plugins == {"negative": hashlib.sha256(TASK.encode()).hexdigest()}
    before, after = map(keys, found)
    assert before.keys() == after.keys()
    for cell, key in before.items():
        assert (key != after[cell]) == ("negative" in cell[0]), cell
    assert found[0].default_name() != found[1].default_name()


def test_the_digest_is_in_the_keys_of_all_its_benchmark_s_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for text in (BENCHMARK, BENCHMARK + "# edited\n"):
        with monkeypatch.context() as context:
            forget(context)
            found.append(planned(tmp_path, text, "shades"))
    assert found[0].plugins == {"shades": hashlib.sha256(BENCHMARK.encode()).hexdigest()}
    before, after = map(keys, found)
    assert not set(before.values()) & set(after.values())


def test_a_specification_is_read_back_with_its_plug_ins(tmp_path: Path) -> None:
    specification = planned(tmp_path, WHOLE, "shades", "classification", "negative")
    assert set(specification.plugins) == {"shades", "negative"}
    assert Specification.from_json(specification.as_json()) == specification


# The ledger's copies


def stored(folder: Path, **texts: str) -> Ledger:
    """A ledger that holds these plug-ins, by their files' names without .py."""
    ledger, _ = write_sweep(folder, specification(), name="sweep")
    plugins = [Plugin(f"{name}.py", text) for name, text in texts.items()]
    for plugin in plugins:
        ledger.write_plugin(plugin.digest, plugin.source)
    ledger.write_sweep({**ledger.read_sweep(), "plugins": {plugin.file: plugin.digest for plugin in plugins}})
    return ledger


def test_the_ledger_s_copy_is_used_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = stored(tmp_path, one=DETECTOR, two=TASK)
    found = load_with_stored((), ledger)
    assert [plugin.source for plugin in found] == [DETECTOR, TASK]
    assert "norm" in DETECTORS.names
    digests = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in (DETECTOR, TASK)]
    assert capsys.readouterr().out == (
        "The sweep's plug-ins are code that runs here, as its ledger holds it: "
        f"one.py ({digests[0]}), two.py ({digests[1]}).\n"
    )


def test_what_is_given_takes_the_place_of_the_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = Plugin("one.py", DETECTOR + "# edited\n")
    renamed = Plugin("three.py", TASK)
    found = load_with_stored((edited, renamed), stored(tmp_path, one=DETECTOR, two=TASK))
    assert set(found) == {edited, renamed}
    assert capsys.readouterr().out == ""


def test_a_copy_that_was_altered_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGIN_MARK", str(tmp_path / "mark"))
    ledger = stored(tmp_path, one=WHOLE)
    (copy,) = tmp_path.glob("sweep/plugins/*.py")
    copy.write_text(copy.read_text() + "# altered\n")
    with pytest.raises(Mistake, match=r"The plug-in one.py in the ledger of 'sweep' was altered"):
        load_with_stored((), ledger)
    copy.unlink()
    with pytest.raises(Mistake, match=r"cannot be read: restore it from a copy, or give the file"):
        load_with_stored((), ledger)
    assert not (tmp_path / "mark").exists()

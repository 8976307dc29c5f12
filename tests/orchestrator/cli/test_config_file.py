"""A file of options is the command line that it was printed for; what is wrong with one is one sentence."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cli.config_file import config_text, kept_config
from orchestrator.cli.parser import run_command
from orchestrator.cli.sweep_options import read_request
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.request import Request
from orchestrator.sweep import main
from orchestrator.verify import main as verify
from tests.sweeps import run
from trainables.mistake import Mistake

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
"""Any word, those with quotes, control characters and other alphabets among them."""
COUNT = st.integers(1, 10_000).map(str)
SHARE = st.floats(0, 4).map(repr) | st.sampled_from(["0", "1", "2.50"])
WORDS = st.lists(TEXT, min_size=1, max_size=3)
NAME = st.sampled_from(["epochs", "learning_rate", "lambda.rotation", "flip", "with blank", "é", "a.b.c"])
ASSIGNED = TEXT | st.sampled_from(
    ["1", "1.0", "1e-3", "0x10", "1_000", "true", "inf", "nan", "0.05..5", "1,2"]
)


def pairs(tables: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in tables.items()]


OPTIONS = {
    "--methods": WORDS,
    "--holdouts": WORDS,
    "--aux-weight": WORDS,
    "--detectors": WORDS,
    "--ood": WORDS,
    "--plugin": WORDS,
    "--set": st.dictionaries(NAME, ASSIGNED, min_size=1).map(pairs),
    "--search": st.dictionaries(NAME, ASSIGNED, min_size=1).map(pairs),
    **dict.fromkeys(
        ("--seeds", "--lambda-trials", "--search-seeds", "--workers", "--crops-per-image"), COUNT
    ),
    **dict.fromkeys(("--cpus-per-worker", "--price-per-gpu-hour"), SHARE),
    "--gpus-per-worker": st.sampled_from(["0", "1", "2"]),
    "--select": st.sampled_from(["holdout", "benchmark"]),
    "--data": TEXT,
    "--cache": TEXT,
    "--storage": TEXT,
    "--tracking-uri": st.sampled_from(["sqlite:///x.db", "http://host/it's"]),
    "--name": st.sampled_from(["mine", "a.b-c_1"]),
    **dict.fromkeys(("--download", "--resume", "--accept-versions", "--dry-run"), st.none()),
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    words = draw(st.lists(st.sampled_from(["cifar10", "digits"]), max_size=1))
    for option in draw(st.sets(st.sampled_from(sorted(OPTIONS)))):
        value = draw(OPTIONS[option])
        if isinstance(value, str):
            words.append(f"{option}={value}")
        else:
            words += [option, *(value or [])]
    return words


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "sweep.toml"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=command_lines())
def test_the_printed_file_is_the_same_request(file: Path, words: list[str]) -> None:
    typed = read_request(words)
    file.write_text(config_text(typed), encoding="utf-8", newline="")
    read = read_request(["--config", str(file)])
    assert (read, read.given) == (typed, typed.given)


FILE = """
seeds = 2
holdouts = [3, "8"]
lambda_trials = 3
download = false

[set]
epochs = 3
flip = true
lambda.rotation = [0.5, 1.0]

[search]
dropout = "0..0.5"
"""


def test_a_file_is_read_as_it_looks_and_the_command_line_wins(file: Path) -> None:
    file.write_text(FILE)
    expected = Request(
        seeds=2,
        holdouts=("3", "8"),
        lambda_trials=3,
        assignments=("epochs=3", "flip=true", "lambda.rotation=0.5,1.0"),
        search=("dropout=0..0.5",),
    )
    assert read_request(["--config", str(file)]) == expected
    over = ["stl10", "--config", str(file), "--holdouts", "5", "--set", "epochs=4", "depth=10"]
    assert read_request(over) == dataclasses.replace(
        expected,
        benchmark="stl10",
        holdouts=("5",),
        assignments=("flip=true", "lambda.rotation=0.5,1.0", "epochs=4", "depth=10"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "seeds 3",
            "cannot be read as TOML: Expected '=' after a key in a key/value pair (at line 1, column 7)",
        ),
        ("seeds = 3\nseeds = 4", "cannot be read as TOML: Cannot overwrite a value (at "),
        ("seed = 3", "There is no option 'seed'. Did you mean 'seeds'? Valid: benchmark, methods, "),
        ("lambda_trials = 1\nlambda-trials = 2", "has lambda-trials twice, with - and with _: keep one."),
        ("config = 'x.toml'", "There is no option 'config'"),
        ("seeds = 'three'", "--seeds three is not valid: give a whole number from 1 to 10000."),
        ("seeds = [3]", "seeds is [3], where a word or number belongs."),
        ("seeds = true", "seeds is true, where a word or number belongs."),
        ("name = ''", 'name is "", where a word or number belongs.'),
        ("holdouts = 3", "holdouts is 3, where a list of words or numbers, not empty, belongs."),
        ("holdouts = []", "holdouts is [], where a list of words or numbers"),
        ("holdouts = [[3]]", "holdouts is [[3]], where a list of words or numbers"),
        ("download = 'yes'", 'download is "yes", where true or false belongs.'),
        ("select = 'both'", 'select is "both", where one of holdout, benchmark belongs.'),
        ("set = ['epochs=3']", 'set is ["epochs=3"], where a table of names and values belongs.'),
        ("[set]\nepochs = 1979-05-27", 'set is {"epochs": "1979-05-27"}, where a table of names and values'),
        ("[set]\nepoch = 3", "There is no field 'epoch'. Did you mean 'epochs'?"),
        ("executor = 'inline'\nmax-concurrent = 2", "--max-concurrent has no use with --executor inline"),
        (f"x = {'[' * 5000}", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file.write_text(text)
    assert main(["--config", str(file), "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert said in line


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["benchmark", "plugin", "resume", *(name.removeprefix("--") for name in OPTIONS)]),
    value=st.sampled_from(["3", "-1", "0.5", "inf", "true", "''", "'x'", "'a=b'", "[]", "[1, 'x']", "[[1]]"])
    | st.sampled_from(["{}", "{a = 1}", "{a = {b = [1, true]}}", "{a = []}", "1979-05-27", "[{a = 1}]"]),
)
def test_no_value_of_any_option_gives_a_traceback(file: Path, key: str, value: str) -> None:
    file.write_text(f"{key} = {value}")
    # run_command turns Mistakes into exit code 2, and nothing else.
    assert run_command(lambda words: int(read_request(words) is None), ["--config", str(file)]) in (0, 2)


def test_a_file_that_is_not_there_or_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"gone.toml cannot be read as TOML: No such file or directory\."):
        read_request(["--config", str(tmp_path / "gone.toml")])
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(Mistake, match="odd.toml cannot be read as TOML: 'utf-8' codec"):
        read_request(["--config", str(tmp_path / "odd.toml")])


def test_passwords_are_left_out(file: Path) -> None:
    words = ["--tracking-uri", "https://me:secret@host", "--storage", "s3://b?secret_key=hidden"]
    text = config_text(read_request(words))
    assert "secret@" not in text
    assert "hidden" not in text
    assert "put the password in place of ***" in text
    assert tomllib.loads(text)["tracking-uri"] == "https://me:***@host"


def test_a_sweep_keeps_its_own_and_goes_on_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--methods", "classification", "--holdouts", "3", "--seeds", "1", "--set", "epochs=1"]
    words += ["--executor", "inline", "--storage", str(tmp_path / "runs"), "--name", "mine"]
    assert main([*words, "--write-config"]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert run(*words, blocked=True).returncode == 0
    kept = tmp_path / "runs" / "mine" / "sweep.toml"
    assert kept.read_text() == printed
    assert verify(["mine", "--storage", str(tmp_path / "runs"), "--no-tracking"]) == 0
    assert "that no sweep writes" not in capsys.readouterr().out
    grown = run("--config", kept, "--seeds", "2", "--executor", "inline", blocked=True)
    assert "Going on with sweep mine: 1 of 2 cells are done." in grown.stdout
    assert read_request(["--config", str(kept)]) == read_request([*words, "--seeds", "2"])


def test_what_concerns_one_run_of_the_command_is_not_kept() -> None:
    request: Any = read_request(["--resume", "--accept-versions", "--dry-run", "--name", "mine"])
    assert tomllib.loads(kept_config(request)) == {"name": "mine"}


def test_a_word_that_is_no_character_does_not_end_a_sweep(tmp_path: Path) -> None:
    request = Request(data="/images/\udcff", given=frozenset({"data"}))
    ledger = Ledger(str(tmp_path), "mine")
    ledger.write_config(kept_config(request))
    assert tomllib.loads((tmp_path / "mine" / "sweep.toml").read_text())["data"] == "/images/?"

"""Command lines and their words, made of valid ones: a sentence, or a request."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from orchestrator.cli import baseline_options, score_options, sweep_options
from orchestrator.planning.request import draft
from search_spaces import all_benchmarks
from tests.fuzz.conftest import Fuzz
from tests.fuzz.limits import limited
from tests.fuzz.test_sources import sentences
from trainables.recipe import Recipe
from trainables.run import parse_method
from trainables.settings import valid_of
from trainables.spaces import parse_space

FIELDS = [*valid_of(Recipe), "retries", "checkpoint_seconds", "lambda.rotation", "lambda.", "none", ""]
VALUES = [
    *("0", "1", "-1", "3", "0.5", "1e3", "1e400", "nan", "inf", "-0.0", "9" * 30, "9" * 5000, "٣", "1_0"),
    *(
        "true",
        "no",
        "published",
        "0.1..5",
        "0.5,1",
        "..",
        "1..",
        ",",
        "a",
        "=",
        "x=y",
        "",
        " ",
        "\ud800",
        "\x00",
    ),
    *(
        "rotation",
        "classification",
        "rotation+cpc",
        "center-mask+rotation",
        "+",
        "++",
        "../x",
        "'; drop",
        "\n",
    ),
    *(
        "msp",
        "odin",
        "knn",
        "digits",
        "cifar10",
        "image-folder",
        "cat",
        "auto",
        "file:///x",
        "s3://",
        "http://[",
    ),
]
OPTIONS = [
    *(
        "--methods",
        "--holdouts",
        "--seeds",
        "--select",
        "--lambda-trials",
        "--aux-weight",
        "--set",
        "--workers",
    ),
    *("--detectors", "--ood", "--ood-resize", "--crops-per-image", "--ood-seed", "--data", "--cache"),
    *(
        "--cpus-per-worker",
        "--gpus-per-worker",
        "--max-concurrent",
        "--storage",
        "--tracking-uri",
        "--executor",
    ),
    *("--address", "--name", "--resume", "--dry-run", "--download", "--", "-x", "--seeds=", "--set=epochs=2"),
]
VALUE = st.one_of(st.sampled_from(VALUES), st.text(max_size=30))
ASSIGNMENT = st.builds(lambda name, value: f"{name}={value}", st.sampled_from(FIELDS), VALUE)
WORD = st.one_of(st.sampled_from(OPTIONS), VALUE, ASSIGNMENT, st.sampled_from(list(all_benchmarks())))
OPTION = st.tuples(st.sampled_from(OPTIONS), st.lists(VALUE | ASSIGNMENT, max_size=2)).map(
    lambda p: [p[0], *p[1]]
)
SETTING = ASSIGNMENT.map(lambda word: ["--set", word])
LINE = st.lists(st.one_of(OPTION, SETTING, WORD.map(lambda word: [word])), max_size=6).map(
    lambda p: list(itertools.chain(*p))
)


def test_command_lines(fuzz: Fuzz) -> None:
    readers = [sweep_options.read_request, score_options.read_request, baseline_options.read_request]

    def check(words: list[str]) -> None:
        for read_request in readers:
            with limited(), sentences():
                request = read_request(words)
                if read_request is sweep_options.read_request:
                    specification = draft(request).complete("cpu", ("cat", "dog", "none-of-them"))
                    assert specification.default_name()

    fuzz(check, LINE)


def test_settings_spaces_and_methods(fuzz: Fuzz) -> None:
    def check(example: tuple[list[str], str, str]) -> None:
        assignments, space, method = example
        for call in (
            lambda: draft(sweep_options.read_request(["digits", "--set", *assignments])).complete(
                "cpu", None
            ),
            lambda: parse_space(space),
            lambda: parse_method(method),
        ):
            with limited(), sentences():
                found: Any = call()
                assert str(found)

    joined = st.lists(st.sampled_from(VALUES), min_size=1, max_size=3)
    space = st.one_of(VALUE, joined.map("..".join), joined.map(",".join))
    fuzz(
        check,
        st.tuples(
            st.lists(ASSIGNMENT, min_size=1, max_size=3), space, st.one_of(VALUE, joined.map("+".join))
        ),
    )

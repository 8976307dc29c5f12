"""How long fuzzing takes: FUZZ_SECONDS for each reader, from the seed FUZZ_SEED on."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

FEW = 15
"""Examples of the ordinary tests."""
BATCH = 200
"""Examples between two looks at the clock."""

Fuzz = Callable[[Callable[..., None], st.SearchStrategy[Any]], None]


def options(examples: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **more,
    )


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.fuzz)])
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Call a function with examples: always the same few, or as many as there is time for."""

    def few(check: Callable[..., None], examples: st.SearchStrategy[Any]) -> None:
        options(FEW, derandomize=True, phases=[Phase.generate])(given(examples)(check))()

    def many(check: Callable[..., None], examples: st.SearchStrategy[Any]) -> None:
        end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60"))
        first = int(os.environ.get("FUZZ_SEED", time.time_ns() % 10**6))
        counts = {"examples": 0, "failures": 0}

        def timed(example: Any) -> None:
            # What failed is made smaller, however long that takes.
            if time.monotonic() > end and not counts["failures"]:
                return
            counts["examples"] += 1
            try:
                check(example)
            except BaseException:
                counts["failures"] += 1
                raise

        for number in itertools.count(first):
            if time.monotonic() > end:
                break
            print(f"FUZZ_SEED={number}")
            seed(number)(options(BATCH)(given(examples)(timed)))()
        print(f"{counts['examples']} examples")

    return few if request.param == "few" else many

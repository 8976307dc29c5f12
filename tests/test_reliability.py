"""docs/reliability.md names tests that exist, and every fault that the harness knows."""

from __future__ import annotations

import re

from tests.sweeps import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for path, name in named:
        assert re.search(rf"^(def {name}\(|{name} = )", (ROOT / path).read_text(), re.MULTILINE), (path, name)


def test_every_fault_has_a_row_that_says_what_shows_it() -> None:
    rows = [
        line.split("|")[1:-1]
        for line in PAGE.splitlines()
        if line.startswith("| ") and "shown by" not in line
    ]
    faults = [row for row in rows if len(row) == 4]
    assert len(faults) > 20
    assert all("harness" in row[3] or "`tests/" in row[3] for row in faults)

"""Ledgers, changed in any way: whoever reads one gets a sentence, or numbers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from orchestrator import status, verify
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cells, lay_out
from orchestrator.planning.plan import Plan
from orchestrator.planning.request import Request
from orchestrator.planning.specification import read_stored
from orchestrator.planning.studies import Outcome, suggest
from orchestrator.reporting.main_table import wide_table
from orchestrator.reporting.report import make_report
from orchestrator.reporting.results import cells_csv
from orchestrator.reporting.tables import to_csv
from orchestrator.tracking.records import cell_record, summary_record
from tests.fuzz.conftest import Fuzz
from tests.fuzz.limits import limited
from tests.fuzz.mutation import byte_edits, edited, json_edits
from tests.fuzz.test_sources import place, sentences
from tests.hand_made_ledger import finish_all, specification, write_sweep

NAME = "mine"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that is done but for one cell, with what came later, a checkpoint and a lock."""
    root = tmp_path_factory.mktemp("ledger")
    wanted = specification(methods=("classification", "rotation"), seeds=2, lambda_trials=2)
    ledger, cells = write_sweep(root, wanted, name=NAME)
    finish_all(ledger, wanted, cells)
    finals = [cell for cell in cells.all() if cell.search_index is None]
    scores = pa.table({"index": [0, 1], "energy": [0.1, 0.2]})
    about = {
        "source": "s", "label": "Energy", "windowed": True, "metrics": {"final/ap_energy_last": 0.5},
        "by_epoch": {"1": 0.5}, "attempt": {"finished_at": 1000.0, "seconds": 1.0},
    }  # fmt: skip
    ledger.write_later(finals[0].key, "energy", scores, about)
    (root / NAME / "cells" / finals[-1].key / "result.json").unlink()
    ledger.write_checkpoint(finals[-1].key, 1, 1, b"checkpoint")
    ledger.write_lock({"owner": "x", "host": "h", "process": 1, "renewed": 1.0, "expires": 2.0})
    return root


def vouched_for(values: Any) -> Any:
    """Return values with the digest that they would have if they had been written so."""
    if isinstance(values, dict) and "digest" in values:
        own = {name: value for name, value in values.items() if name != "digest"}
        text = json.dumps(own, sort_keys=True, separators=(",", ":"))
        return {**own, "digest": hashlib.sha256(text.encode()).hexdigest()}
    return values


def report(ledger: Ledger) -> None:
    made = make_report(ledger, Request(storage=ledger.storage, name=NAME))
    assert made.text
    assert made.markdown()
    assert made.latex()
    assert to_csv(wide_table(made.results))
    assert cells_csv(made.results)
    made.summary_metrics()


def cells_of(ledger: Ledger) -> Cells:
    stored = read_stored(ledger)
    return lay_out(stored.specification, stored.fingerprint)


def resume(ledger: Ledger) -> None:
    """Read what --resume reads before any cell runs."""
    cells = cells_of(ledger)
    keys = [cell.key for cell in cells.all()]
    ledger.close_lost(keys)
    results = ledger.read_results(keys)
    done = {key: Outcome.of(result) for key, result in results.items()}
    reached, _ = ledger.read_rungs(keys)
    Plan(cells, suggest, done, reached=reached).counts()
    for key in keys:
        assert ledger.attempts(key) >= 0
        assert ledger.newest_epoch(key) >= 0
    ledger.read_lock()


def records(ledger: Ledger) -> None:
    """Read what MLflow's records are written from."""
    wanted = read_stored(ledger).specification
    for cell in cells_of(ledger).all():
        cell_record(cell, wanted, ledger)
    summary_record(wanted, ledger, {}, 0.0)


def show_status(ledger: Ledger) -> None:
    for words in ([NAME], [NAME, "--json"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status.main([*words, "--storage", ledger.storage])


def verify_it(ledger: Ledger) -> None:
    """Look for whatever is wrong, and move damaged files aside."""
    for words in ([], ["--repair"], ["--json"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = verify.main([NAME, "--no-tracking", *words, "--storage", ledger.storage])
        assert code in (1, 2)  # one cell is missing


READERS: dict[str, Callable[[Ledger], None]] = {
    "report": report,
    "resume": resume,
    "records": records,
    "status": show_status,
    "verify": verify_it,
}


@pytest.mark.parametrize("reader", READERS)
def test_ledgers(fuzz: Fuzz, storage: Path, reader: str) -> None:
    files = sorted(path.relative_to(storage) for path in storage.rglob("*") if path.is_file())
    kinds = sorted({path.name for path in files})

    def check(example: list[tuple[str, int, list]]) -> None:
        with place() as root:
            shutil.copytree(storage, root / "runs")
            for name, number, edits in example:
                of_kind = [path for path in files if path.name == name]
                path = root / "runs" / of_kind[number % len(of_kind)]
                path.write_bytes(edited(path.read_bytes(), edits))
            with limited(), sentences():
                READERS[reader](Ledger(str(root / "runs"), NAME))

    edits = st.one_of(json_edits(vouched_for), json_edits(vouched_for), byte_edits())
    fuzz(
        check, st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 99), edits), min_size=1, max_size=3)
    )

"""Files that were damaged: said, moved aside, and never believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.ledger.digest import Unsound, seal, unseal
from orchestrator.ledger.ledger import Ledger
from tests.sweeps import ROOT

KEYS = ["a", "b"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two cells that are done, one with a later detector."""
    made = Ledger(str(tmp_path), "mine")
    made.write_sweep({"specification": {"seeds": 1}})
    for key in KEYS:
        number = made.begin(key, {"cell": {"key": key}, "opened": []})
        made.finish(
            key,
            number,
            {"values": {"final/ap_msp": 0.5}},
            {"number": number},
            scores=pa.table({"msp": [0.1]}),
            curves=[{"epoch": 1}],
            weights=b"weights",
        )
        made.end_attempt(key, number, "done")
    made.write_later("a", "knn", pa.table({"knn": [0.5]}), {"metrics": {}})
    assert made.damaged(KEYS) == []
    return made


def place(ledger: Ledger, path: str) -> Path:
    return Path(ledger.storage, ledger.name, path)


def edit(field: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))

    change.__name__ = f"edit {field}"
    return change


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def nest(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def of_another_cell(path: Path) -> None:
    path.write_bytes((path.parent.parent / "b" / path.name).read_bytes())


def remove(path: Path) -> None:
    path.unlink()


HARMS = [empty, zeros, cut, flip, nest]
OF_A_CELL = [
    *[("result.json", harm) for harm in HARMS],
    *[("cell.json", harm) for harm in HARMS],
    ("result.json", edit("values", {"final/ap_msp": 0.999})),
    ("cell.json", edit("attempts", "many")),
    ("cell.json", edit("opened", [])),
    ("cell.json", remove),
    ("result.json", of_another_cell),
    ("cell.json", of_another_cell),
    ("scores.parquet", cut),
    ("curves.parquet", remove),
]


@pytest.mark.parametrize(("name", "harm"), OF_A_CELL, ids=lambda part: getattr(part, "__name__", part))
def test_a_cell_with_a_damaged_file_is_not_done_until_it_is_run_again(
    ledger: Ledger, name: str, harm: Callable[[Path], None]
) -> None:
    if name == "cell.json" and getattr(harm, "__name__", "") == "edit opened":
        harm = edit("opened", [{"split": "train", "classes": []}])
    harm(place(ledger, f"cells/a/{name}"))
    done, (found,) = ledger.examine(KEYS)
    assert set(done) == {"b"}
    assert (found.path, found.key) == (f"cells/a/{name}", "a")
    assert found.sentence.startswith(f"cells/a/{name} ")
    assert ledger.damaged(KEYS) == [found]
    ledger.set_aside(found)
    assert ledger.damaged(KEYS) == []
    assert not place(ledger, "cells/a/result.json").exists()
    assert place(ledger, "damaged/cells/a/result.json.1").exists()
    number = ledger.begin("a", {"cell": {"key": "a"}})
    assert number == 2
    result = ledger.finish("a", number, {"values": {}}, {"number": number})
    assert ledger.read_results(KEYS).keys() == {"a", "b"}
    assert ledger.read_result("a") == result


BESIDE = [
    ("cells/a/attempts/1.json", edit("gpus", 8.0)),
    ("cells/a/detectors/knn.json", edit("metrics", {"final/ap_knn_last": 0.999})),
    ("cells/a/detectors/knn.parquet", cut),
    ("cells/a/weights.safetensors", flip),
]


@pytest.mark.parametrize(("path", "harm"), BESIDE, ids=lambda part: getattr(part, "__name__", part))
def test_what_a_cell_s_numbers_do_not_need_is_found_when_it_is_looked_for(
    ledger: Ledger, path: str, harm: Callable[[Path], None]
) -> None:
    harm(place(ledger, path))
    assert set(ledger.read_results(KEYS)) == set(KEYS)
    (found,) = ledger.damaged(KEYS)
    assert found.path == path
    ledger.set_aside(found)
    ledger.set_aside(found)
    assert ledger.damaged(KEYS) == []
    assert ledger.begin("a", {}) == 2


def test_files_that_are_damaged_twice_are_both_kept(ledger: Ledger) -> None:
    for _ in range(2):
        empty(place(ledger, "cells/a/cell.json"))
        for found in ledger.damaged(KEYS):
            ledger.set_aside(found)
        ledger.begin("a", {})
    kept = {path.name for path in place(ledger, "damaged/cells/a").iterdir()}
    assert kept == {"cell.json.1", "cell.json.2", "result.json.1"}


@pytest.mark.parametrize("harm", [*HARMS, edit("specification", {"seeds": 2})])
def test_a_damaged_sweep_is_said_and_can_be_written_again(
    ledger: Ledger, harm: Callable[[Path], None]
) -> None:
    from trainables.mistake import Mistake

    identity = ledger.identity()
    harm(place(ledger, "sweep.json"))
    with pytest.raises(Mistake, match=r"sweep\.json .*: give the sweep's whole command line again"):
        ledger.read_sweep()
    (found,) = ledger.damaged(KEYS)
    assert found == ledger.sweep_damage()
    ledger.set_aside(found)
    assert not ledger.exists()
    assert place(ledger, "damaged/sweep.json.1").exists()
    ledger.write_sweep({"specification": {"seeds": 1}})
    assert ledger.read_sweep() == {"specification": {"seeds": 1}}
    assert Ledger(ledger.storage, ledger.name).identity() == identity


def test_values_are_read_as_they_were_written_and_every_byte_of_them_counts() -> None:
    values = {"b": [1, 2.5, None, {"ü": True}], "a": {10: "ten", 9: "nine"}, "nan": float("inf")}
    data = seal(values)
    read, sealed = unseal(data)
    assert sealed
    assert read == json.loads(json.dumps(values))
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        try:
            found, sealed = unseal(changed)
        except Unsound:
            continue
        # What is read is what was written, or the digest is gone, as is the name of the field.
        assert found == read or not sealed


OF_0_1 = Path("digits-71fc1416", "cells")


@pytest.mark.parametrize(
    ("name", "field", "value", "said"),
    [
        ("result.json", "values", None, "has something else than was written as 'values'"),
        (
            "result.json",
            "values",
            {"final/ap_msp": "high"},
            "has something else than was written as 'values'",
        ),
        ("result.json", "checksums", ["x"], "has something else than was written as 'checksums'"),
        ("result.json", "attempt", "first", "has something else than was written as 'attempt'"),
        ("result.json", "attempt", {"number": 1}, "has no 'checksums'"),
        ("cell.json", "attempts", "one", "has something else than was written as 'attempts'"),
    ],
)
def test_files_of_version_0_1_are_checked_as_far_as_they_go(
    tmp_path: Path, name: str, field: str, value: object, said: str
) -> None:
    import shutil

    shutil.copytree(ROOT / "tests" / "ledger_of_0_1", tmp_path / "runs")
    ledger = Ledger(str(tmp_path / "runs"), "digits-71fc1416")
    keys = [path.name for path in (tmp_path / "runs" / OF_0_1).iterdir()]
    assert ledger.damaged(keys) == []
    whole = ledger.read_results(keys)
    assert len(whole) == 4
    key = next(iter(whole))
    edit(field, value)(tmp_path / "runs" / OF_0_1 / key / name)
    done, (found,) = ledger.examine(keys)
    assert set(done) == set(whole) - {key}
    assert found.sentence == f"cells/{key}/{name} {said}"

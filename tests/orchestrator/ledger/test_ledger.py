"""The ledger: whole files or none, and nothing called done that is not."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.ledger.ledger import Ledger, Superseded
from orchestrator.ledger.storage import StorageAway
from trainables.mistake import Mistake


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "a folder, new"), "mine")


def conclude(ledger: Ledger, key: str) -> dict:
    """Writes a cell as an attempt does at its end."""
    attempt = ledger.begin(key, {})
    scores = pa.table({"msp": [0.1, 0.2]})
    about = {"number": attempt}
    return ledger.finish(
        key, attempt, {"values": {"value": 0.5}}, about, scores=scores, curves=[{"epoch": 1}]
    )


def file_of(ledger: Ledger, *parts: str) -> Path:
    """Where a file of the ledger stands, spelled out: other programs find it there."""
    return Path(ledger.storage, ledger.name, *parts)


def test_a_cell_is_done_when_its_result_and_what_it_vouches_for_are_whole(ledger: Ledger) -> None:
    result = conclude(ledger, "a")
    ledger.begin("b", {})
    assert ledger.read_results(["a", "b", "c"]) == {"a": result}


@pytest.mark.parametrize("name", ["result.json", "scores.parquet", "curves.parquet"])
@pytest.mark.parametrize("harm", ["cut", "changed", "removed"])
def test_a_file_that_is_cut_changed_or_missing_makes_the_cell_not_done(
    ledger: Ledger, name: str, harm: str
) -> None:
    conclude(ledger, "a")
    path = file_of(ledger, "cells", "a", name)
    data = path.read_bytes()
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else b"\x00" + data[1:])
    assert ledger.read_results(["a"]) == {}


def test_attempts_count_up_and_an_older_one_stops(ledger: Ledger) -> None:
    first = ledger.begin("a", {"note": "x"})
    ledger.write_checkpoint("a", 3, first, b"three")
    second = ledger.begin("a", {"note": "y"})
    assert (first, second) == (1, 2)
    with pytest.raises(Superseded):
        ledger.write_checkpoint("a", 4, first, b"four")
    assert ledger.checkpoints("a") == ["3-1.pt"]
    assert ledger.read_cell("a") == {"note": "y", "attempts": 2}


def test_the_newest_two_checkpoints_are_kept_in_order_of_epoch(ledger: Ledger) -> None:
    attempt = ledger.begin("a", {})
    for epoch in (8, 9, 10, 11):
        ledger.write_checkpoint("a", epoch, attempt, b"state")
    assert ledger.checkpoints("a") == ["11-1.pt", "10-1.pt"]
    ledger.remove_checkpoints("a")
    ledger.remove_checkpoints("a")
    assert ledger.checkpoints("a") == []


def test_a_sweep_that_is_not_there_is_a_mistake_that_names_those_that_are(ledger: Ledger) -> None:
    with pytest.raises(Mistake, match="no sweep 'mine' .* sweeps there: none"):
        ledger.read_sweep()
    ledger.write_sweep({"specification": {}})
    assert ledger.read_sweep() == {"specification": {}}
    with pytest.raises(Mistake, match="no sweep 'yours' .* sweeps there: mine"):
        Ledger(ledger.storage, "yours").read_sweep()


def test_a_ledger_travels_to_other_processes(ledger: Ledger) -> None:
    ledger.write_sweep({"x": 1})
    assert pickle.loads(pickle.dumps(ledger)).read_sweep() == {"x": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Mistake, match="cannot be written"):
        Ledger(str(tmp_path / "runs"), "mine").write_sweep({})


def test_a_storage_below_a_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Mistake, match="cannot be written"):
        Ledger(str(tmp_path / "file"), "mine").write_sweep({})


def test_a_later_attempt_s_checkpoints_outlive_what_an_earlier_one_left_unreadable(ledger: Ledger) -> None:
    for epoch in (49, 50):
        path = file_of(ledger, "cells", "k", "checkpoint", f"{epoch}-1.pt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"cut")
    assert ledger.begin("k", {}) == 2
    ledger.write_checkpoint("k", 5, 2, b"whole")
    assert "5-2.pt" in ledger.checkpoints("k")
    ledger.write_checkpoint("k", 6, 2, b"whole")
    assert ledger.checkpoints("k") == ["6-2.pt", "5-2.pt"]


def test_a_ledger_that_was_sent_elsewhere_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sent = pickle.dumps(Ledger("runs", "mine"))
    monkeypatch.chdir(tmp_path / "there")
    pickle.loads(sent).write_sweep({})
    assert (tmp_path / "here" / "runs" / "mine" / "sweep.json").exists()


def test_a_lost_cell_json_does_not_start_the_count_again(ledger: Ledger) -> None:
    for attempt in (1, 2):
        ledger.begin("k", {})
        ledger.write_checkpoint("k", 10 * attempt, attempt, b"state")
    file_of(ledger, "cells", "k", "cell.json").write_text("")
    assert ledger.begin("k", {}) == 3
    ledger.write_checkpoint("k", 25, 3, b"state")
    assert "25-3.pt" in ledger.checkpoints("k")


def test_what_a_killed_attempt_left_half_written_is_removed_by_the_next(ledger: Ledger) -> None:
    ledger.begin("k", {})
    left = file_of(ledger, "cells", "k", "result.json.0123.part")
    left.write_text("{")
    ledger.begin("k", {})
    assert not left.exists()


@pytest.mark.parametrize("kept", [False, True])
def test_what_a_killed_driver_left_is_removed_by_the_next(ledger: Ledger, kept: bool) -> None:
    ledger.write_report("table.md", b"")
    parts = [file_of(ledger, "sweep.json.01.part"), file_of(ledger, "report", "table.csv.01.part")]
    parts.append(file_of(ledger, "cells", "done", "result.json.1.01.part"))
    for key in ("done", "begun"):
        ledger.write_checkpoint(key, 1, ledger.begin(key, {}), b"weights")
    for left in parts:
        left.write_text("{")
    ledger.clear_left_behind(["done", "never begun"], keep_checkpoints=kept)
    assert not any(left.exists() for left in parts)
    assert (ledger.checkpoints("done") != []) == kept
    assert ledger.checkpoints("begun") == ["1-1.pt"]


class Overtaken(pafs.LocalFileSystem):
    """A newer attempt begins between a checkpoint's last byte and its renaming."""

    newer: Ledger

    def move(self, source: str, target: str) -> None:
        if target.endswith(".pt"):
            self.newer.begin("k", {})
        super().move(source, target)


def test_an_attempt_whose_half_written_file_a_newer_one_cleared_is_superseded(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ledger.begin("k", {})
    fs = Overtaken()
    fs.newer = Ledger(ledger.storage, ledger.name)
    monkeypatch.setitem(ledger.__dict__, "_root", (fs, ledger._root[1]))
    with pytest.raises(Superseded):
        ledger.write_checkpoint("k", 3, first, b"state")
    assert ledger.checkpoints("k") == []


def test_a_storage_that_is_away_is_not_an_empty_one(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    conclude(ledger, "a")
    monkeypatch.setitem(ledger.__dict__, "_root", (Away(ledger._root[0]), ledger._root[1]))
    with pytest.raises(StorageAway):
        ledger.read_results(["a"])
    with pytest.raises(StorageAway):
        ledger.read_cell("a")


class Away:
    """A file system that lists files and cannot read one."""

    def __init__(self, fs: object) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> object:
        return getattr(self.fs, name)

    def open_input_file(self, path: str) -> None:
        raise OSError(5, "Input/output error")


def test_a_query_stays_at_the_end_of_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = "s3://bucket/runs?region=us-west-2&endpoint_override=127.0.0.1%3A9"
    found = Ledger(storage, "mine")
    assert found.scratch_uri == "s3://bucket/runs/mine/ray?region=us-west-2&endpoint_override=127.0.0.1%3A9"
    assert found._path("ray") == "bucket/runs/mine/ray"


def test_later_detectors_are_read_if_their_scores_are_whole(ledger: Ledger) -> None:
    result = conclude(ledger, "a")
    scores = pa.table({"index": [0, 1], "knn": [0.5, 0.25]})
    record = ledger.write_later("a", "knn", scores, {"metrics": {"final/ap_knn_last": 0.5}})
    ledger.write_later("a", "vim", pa.table({"vim": [1.0]}), {})
    assert record["metrics"] == {"final/ap_knn_last": 0.5}
    assert ledger.read_later("a")["knn"] == record
    assert ledger.read_later_scores("a", "knn").equals(scores)
    assert ledger.read_results(["a"]) == {"a": result}
    folder = file_of(ledger, "cells", "a", "detectors")
    assert {path.name for path in folder.iterdir()} == {"knn.json", "knn.parquet", "vim.json", "vim.parquet"}
    (folder / "knn.parquet").write_bytes((folder / "vim.parquet").read_bytes())
    (folder / "energy.json").write_text("{")
    (folder / "odin.json").write_text("{}")
    assert set(ledger.read_later("a")) == {"vim"}
    (folder / "vim.parquet").unlink()
    assert ledger.read_all_later(["a", "b"]) == {}
    ledger.write_later("a", "knn", scores, {})
    assert set(ledger.read_all_later(["a", "b"])["a"]) == {"knn"}


def test_a_later_detector_clears_what_a_killed_one_left_half_written(ledger: Ledger) -> None:
    conclude(ledger, "a")
    left = file_of(ledger, "cells", "a", "detectors", "knn.parquet.0123.part")
    left.parent.mkdir()
    left.write_bytes(b"half")
    ledger.write_later("a", "vim", pa.table({"vim": [1.0]}), {})
    assert not left.exists()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def of_words(data: bytes) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"epoch": ["first"]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("spoil", [cut, flipped, of_words])
def test_spoilt_curves_count_as_none(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    ledger = Ledger(str(tmp_path), "mine")
    attempt = ledger.begin("a", {})
    ledger.write_curves("a", attempt, [{"epoch": 1, "train/loss": 0.5}])
    assert ledger.read_curves("a") == [{"epoch": 1, "train/loss": 0.5}]
    path = tmp_path / "mine/cells/a/curves.parquet"
    path.write_bytes(spoil(path.read_bytes()))
    assert ledger.read_curves("a") == []


def test_a_stray_file_among_the_cells_is_no_cell(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), "mine")
    ledger.begin("abc", {"opened": []})
    (tmp_path / "mine" / "cells" / ".DS_Store").write_bytes(b"")
    assert ledger.keys() == {"abc"}

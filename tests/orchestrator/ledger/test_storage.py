"""Files of a storage: whole or not there, and patience while the storage is away."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from orchestrator.ledger import storage
from orchestrator.ledger.storage import Files, StorageAway, open_storage
from orchestrator.planning.request import Request
from trainables.mistake import Mistake


class Failing:
    """A local file system whose calls of one kind fail a number of times."""

    def __init__(self, call: str, times: int, error: OSError) -> None:
        self.fs, self.call, self.left, self.error = pafs.LocalFileSystem(), call, times, error

    def __getattr__(self, name: str) -> object:
        if name == self.call and self.left > 0:
            self.left -= 1
            raise self.error
        return getattr(self.fs, name)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing file systems count as local, and pauses are short."""
    monkeypatch.setattr(Files, "local", True)
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.01)


def test_nothing_is_seen_of_a_file_before_it_is_whole_and_nothing_is_left_of_it(
    tmp_path: Path, local: None
) -> None:
    path = tmp_path / "sweep.json"
    Files(pafs.LocalFileSystem()).write(b"1", str(path))
    dying = Files(Failing("move", 1, OSError(5, "the power went")))
    with pytest.raises(StorageAway, match="the power went"):
        dying.write(b"2", str(path))
    assert path.read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["open_input_file", "get_file_info", "move"])
def test_a_storage_that_comes_back_in_time_was_never_away(tmp_path: Path, local: None, call: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    fs = Failing(call, 3, OSError(116, "Stale file handle"))
    files = Files(fs, patience=5)
    assert files.read(str(path)) == b"before"
    assert files.is_file(str(path))
    files.write(b"after", str(path))
    assert path.read_bytes() == b"after"
    assert fs.left == 0


def test_patience_ends(tmp_path: Path, local: None) -> None:
    files = Files(Failing("open_input_file", 1000, OSError(5, "Input/output error")), patience=0.2)
    with pytest.raises(StorageAway, match="Input/output error"):
        files.read(str(tmp_path / "file"))


def test_a_missing_file_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Files(pafs.LocalFileSystem(), patience=1000).read(str(tmp_path / "file"))


def test_what_waiting_does_not_mend_is_said_at_once(tmp_path: Path, local: None) -> None:
    denied = Files(Failing("open_input_file", 1, PermissionError(13, "Permission denied")), patience=1000)
    with pytest.raises(StorageAway, match="Permission denied"):
        denied.read(str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    files = Files(pafs.LocalFileSystem(), patience=1000)
    assert files.listing(str(tmp_path / "file" / "below")) == []
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="Not a directory"):
        files.write(b"1", str(tmp_path / "file" / "below"))


def test_a_storage_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(Mistake, match="nosuch://bucket"):
        open_storage("nosuch://bucket/folder")


@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_room_on_a_full_disk_is_waited_for_only_shortly(
    tmp_path: Path, local: None, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(storage, "FULL_SECONDS", 0.2)
    full = Failing("open_output_stream", 10_000, OSError(28, "No space left on device"))
    with pytest.raises(StorageAway) as raised:
        Files(full, patience=patience).write(b"1", str(tmp_path / "file"))
    waited = ", after 0.2 s of waiting for room" if patience else ""
    assert raised.value.strerror == f"No space left on device{waited}"
    full.left = 3
    Files(full, patience=600).write(b"1", str(tmp_path / "file"))


def test_of_those_who_create_a_file_one_has_made_it(tmp_path: Path) -> None:
    files, path = Files(pafs.LocalFileSystem()), tmp_path / "new" / "file"
    assert files.create(b"one", str(path), 1, durable=True)
    assert files.create(b"one", str(path), 1)  # an answer that was lost
    assert not files.create(b"two", str(path), 2)
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_process_that_was_stopped_while_it_renamed_keeps_nobody_waiting_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import os

    monkeypatch.setattr(storage, "LONGEST_TURN", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    Files(pafs.LocalFileSystem()).write_if(lambda: None, b"1", str(tmp_path / "file"), 1)
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [(None, "./runs"), ("", "./runs"), ("s3://mine", "s3://mine/runs"), ("s3://mine/", "s3://mine/runs")],
)
def test_sweeps_are_in_the_cluster_s_bucket_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, bucket: str | None, expected: str
) -> None:
    monkeypatch.delenv("HOLDOUT_BUCKET", raising=False)
    if bucket is not None:
        monkeypatch.setenv("HOLDOUT_BUCKET", bucket)
    assert Request().storage == expected

"""Files of many classes: few descriptors, only opened classes mapped, and what counts as damage."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from tests.images import folder_request, write_folder
from tests.sweeps import ROOT
from trainables.data import image_file
from trainables.data.cache import prepare
from trainables.data.image_file import DamagedError, SplitWriter, open_classes
from trainables.mistake import Mistake

CLASSES = [str(number) for number in range(100)]
SIDE = 64
"""An image is a page of memory."""


def pixels_of(name: str, count: int = 2) -> np.ndarray:
    return np.full((count, SIDE, SIDE, 1), 100 + int(name), np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("many") / "train.arrow")
    with SplitWriter(path, "train", CLASSES, side=SIDE, channels=1) as writer:
        for name in CLASSES:
            writer.write(name, pixels_of(name), np.arange(2) + 2 * int(name))
    return path


FEW_FILES = """
import resource, sys
from trainables.data.image_file import open_classes
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [each for _ in range(5) for each in open_classes(sys.argv[1], "train", [str(n) for n in range(100)])]
kept = [str(n) for n in range(100) if n != 37]
held += [each for _ in range(5) for each in open_classes(sys.argv[1], "train", kept)]
print(len(held), all((each.pixels == 100 + int(each.name)).all() for each in held))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits on open files")
def test_many_classes_need_few_file_descriptors(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(5 * 100 + 5 * 99), "True"]


def mappings(path: str) -> list[tuple[int, int]]:
    """Return the ranges of bytes of the file that this process has mapped."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(path):
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            start = int(line.split()[2], 16)
            found.append((start, min(start + last - first, os.path.getsize(path))))
    return found


def mapped(path: str) -> bytes:
    """Return the bytes of the file that this process has mapped, with 255 for the others.

    One of Arrow's threads may keep the whole file mapped a little longer than the call that read its table of
    contents: at most 9 ms in 3,000 calls, of which ten saw any of it.
    """
    whole, limit = (0, os.path.getsize(path)), time.monotonic() + 10
    while whole in mappings(path) and time.monotonic() < limit:
        time.sleep(0.01)
    found = bytearray(b"\xff" * os.path.getsize(path))
    for start, stop in mappings(path):
        found[start:stop] = Path(path).read_bytes()[start:stop]
    return bytes(found)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("hidden", [[37], [0], [99], [5, 6], list(range(1, 100, 2))])
def test_a_class_that_was_not_opened_is_not_mapped(path: str, tmp_path: Path, hidden: list[int]) -> None:
    path = str(shutil.copy(path, tmp_path / "own.arrow"))
    kept = [name for name in CLASSES if int(name) not in hidden]
    opened = open_classes(path, "train", kept)
    assert [each.name for each in opened] == kept
    there = np.frombuffer(mapped(path), np.uint8)
    for name in CLASSES:
        # Mappings consist of whole pages, so they contain at most part of an image of an adjacent class.
        images = int((there == 100 + int(name)).sum()) / SIDE**2
        assert images < 2 if int(name) in hidden else images >= 2, name


@pytest.mark.parametrize("order", [["7", "3", "4"], ["9", "8"], ["1", "5", "5", "6"]])
def test_classes_are_returned_in_the_requested_order(path: str, order: list[str]) -> None:
    for name, opened in zip(order, open_classes(path, "train", order), strict=True):
        assert opened.name == name
        assert np.array_equal(opened.pixels, pixels_of(name))
        assert opened.indices.tolist() == [2 * int(name), 2 * int(name) + 1]


def test_an_empty_class_between_others_takes_nothing_from_them(tmp_path: Path) -> None:
    counts = {"1": 2, "2": 0, "3": 1, "4": 3}
    with SplitWriter(str(tmp_path / "x"), "test", list(counts), side=SIDE, channels=1) as writer:
        for name, count in counts.items():
            writer.write(name, pixels_of(name, count), np.arange(count))
    opened = open_classes(str(tmp_path / "x"), "test", list(counts))
    for name, each in zip(counts, opened, strict=True):
        assert np.array_equal(each.pixels, pixels_of(name, counts[name]))


def test_writing_to_one_class_reaches_neither_its_neighbour_nor_the_file(path: str) -> None:
    first, second = open_classes(path, "train", ["1", "2"])
    first.pixels[:] = 200
    assert np.array_equal(second.pixels, pixels_of("2"))
    image_file.verify(open_classes(path, "train", ["1", "2"]))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("function", ["np.memmap", "pa.memory_map"])
def test_errors_of_limits_permissions_and_disks_are_not_damage(
    path: str, monkeypatch: pytest.MonkeyPatch, number: int, function: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"trainables.data.image_file.{function}", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        open_classes(path, "train", ["1"])
    assert (raised.value.errno, raised.value.filename) == (number, path)


def test_a_missing_file_and_a_folder_are_damage(tmp_path: Path) -> None:
    for place in (tmp_path / "gone", tmp_path):
        with pytest.raises(DamagedError):
            open_classes(str(place), "train", ["1"])


EVERY_SECOND = """
import pickle, resource, sys
prepared = pickle.load(open(sys.argv[1], "rb"))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    prepared.open("train", prepared.classes[::2])
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits on open files")
def test_a_limit_on_open_files_is_reported_as_such(tmp_path: Path) -> None:
    names = [f"c{number:03d}" for number in range(160)]
    write_folder(tmp_path / "data", {split: dict.fromkeys(names, 1) for split in ("train", "test")}, side=2)
    prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache", side=2))
    (tmp_path / "prepared").write_bytes(pickle.dumps(prepared))
    command = [sys.executable, "-c", EVERY_SECOND, str(tmp_path / "prepared")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("Mistake ")
    assert "train.arrow cannot be opened (Too many open files)" in said
    assert "ulimit -n 65536" in said
    assert "delete" not in said


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("given", [True, False])
def test_unreadable_prepared_data_is_neither_replaced_nor_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, given: bool
) -> None:
    write_folder(tmp_path / "data", {split: {"ant": 2, "bee": 2} for split in ("train", "test")})
    request = folder_request(tmp_path / "data", tmp_path / "cache")
    first = prepare(request)
    before = [path.stat().st_ino for path in sorted(first.folder.iterdir())]

    def refuse(path: str) -> BinaryIO:
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patched:
        patched.setattr("trainables.data.prepared.open_file", refuse)
        with pytest.raises(Mistake, match=os.strerror(number)) as raised:
            prepare(request, first.fingerprint if given else None)
    assert "delete" not in str(raised.value)
    assert prepare(request) == first
    assert [path.stat().st_ino for path in sorted(first.folder.iterdir())] == before

"""Preparing data: content, caching, damage, interruption, several processes, and mistakes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.images import folder_request, noise, write_folder
from trainables.data import build
from trainables.data.cache import LOCK_TIMEOUT, prepare
from trainables.data.prepared import Prepared, Repeated
from trainables.data.readers.request import DataRequest
from trainables.mistake import Mistake

COUNTS = {"train": {"ant": 4, "bee": 3, "cow": 5}, "test": {"ant": 2, "bee": 2, "cow": 1}}
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_folder(tmp_path / "data", COUNTS)
    return tmp_path / "data"


@pytest.fixture
def request_(data: Path, tmp_path: Path) -> DataRequest:
    return folder_request(data, tmp_path / "cache")


def file_ids(prepared: Prepared) -> list[int]:
    return [path.stat().st_ino for path in sorted(prepared.folder.iterdir())]


def test_prepared_images_equal_those_of_the_files(data: Path, tmp_path: Path) -> None:
    pixels = write_folder(data, COUNTS)
    prepared = prepare(folder_request(data, tmp_path / "cache"))
    assert prepared.classes == ("ant", "bee", "cow")
    assert prepared.counts == {"train": (4, 3, 5), "test": (2, 2, 1)}
    assert (prepared.side, prepared.channels, prepared.skipped) == (8, 3, ())
    for split in ("train", "test"):
        wanted = [array for path, array in sorted(pixels.items()) if f"/{split}/" in path]
        table = prepared.open(split)
        assert np.array_equal(table.gather(torch.arange(len(table))).numpy(), np.stack(wanted))
        assert table.indices.tolist() == list(range(len(table)))
    some = prepared.open("train", ("cow", "ant"))
    assert (some.classes, some.counts, some.indices.tolist()) == (
        ("ant", "cow"),
        (4, 5),
        [0, 1, 2, 3, 7, 8, 9, 10, 11],
    )
    with pytest.raises(Mistake, match="no class 'ox'; valid: ant, bee, cow"):
        prepared.open("train", ("ox",))


def test_prepared_data_is_not_prepared_again(request_: DataRequest) -> None:
    first = prepare(request_)
    told: list = []
    second = prepare(pickle.loads(pickle.dumps(request_)), progress=lambda *counts: told.append(counts))
    assert (second, file_ids(second), told) == (first, file_ids(first), [])


def test_the_fingerprint_depends_on_the_content_only(data: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path, **changes: object) -> str:
        return prepare(folder_request(folder, tmp_path / "cache", **changes)).fingerprint

    def changed(change: Callable[[Path], object]) -> str:
        copy = tmp_path / "changed"
        shutil.copytree(data, copy)
        change(copy)
        found = fingerprint(copy)
        shutil.rmtree(copy)
        return found

    original = fingerprint(data)
    assert changed(lambda copy: None) == original
    assert changed(lambda copy: (copy / "train/ant/.hidden.png").write_bytes(b"passed over")) == original
    different = {
        "pixel": changed(lambda copy: Image.fromarray(noise(999)).save(copy / "test/ant/0000.png")),
        "label": changed(lambda copy: (copy / "train/cow/0000.png").rename(copy / "train/ant/9999.png")),
        "order": changed(lambda copy: (copy / "train/cow/0000.png").rename(copy / "train/cow/9999.png")),
        "name": changed(
            lambda copy: [(copy / split / "bee").rename(copy / split / "bug") for split in COUNTS]
        ),
        "size": fingerprint(data, side=9),
        "colour": fingerprint(data, channels=1),
    }
    assert len({original, *different.values()}) == 7


def test_a_fingerprint_opens_without_the_source(request_: DataRequest, data: Path) -> None:
    first = prepare(request_)
    shutil.rmtree(data)
    assert prepare(request_, first.fingerprint) == first
    with pytest.raises(Mistake, match="does not exist"):
        prepare(request_)


def test_data_that_differs_from_the_sweeps_is_refused(request_: DataRequest) -> None:
    first = prepare(request_)
    for _ in range(2):
        with pytest.raises(Mistake, match="differs from the sweep's"):
            prepare(request_, "0" * 64)
    assert prepare(request_) == first


def flip(path: Path, place: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "train cut": lambda folder: os.truncate(folder / "train.arrow", 2000),
    "test cut": lambda folder: os.truncate(folder / "test.arrow", 2000),
    "test emptied": lambda folder: os.truncate(folder / "test.arrow", 0),
    "test gone": lambda folder: (folder / "test.arrow").unlink(),
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "manifest cut": lambda folder: os.truncate(folder / "manifest.json", 50),
    "folder emptied": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("given", [True, False])
def test_damaged_prepared_data_is_prepared_again(request_: DataRequest, damage: str, given: bool) -> None:
    first = prepare(request_)
    DAMAGE[damage](first.folder)
    again = prepare(request_, first.fingerprint if given else None, verify=True)
    assert again == first
    assert np.array_equal(again.open("test", ("ant",)).gather(torch.arange(2))[0], noise(13))
    assert [path.name for path in request_.cache_folder.iterdir() if path.is_dir()] == [first.folder.name]


def test_a_manifest_that_does_not_fit_its_fingerprint_is_refused(request_: DataRequest) -> None:
    first = prepare(request_)
    manifest = first.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bee"', '"fly"'))
    assert prepare(request_) == first
    assert "bee" in json.loads(manifest.read_text())["classes"]


def test_a_changed_byte_is_found_when_verifying(request_: DataRequest) -> None:
    first = prepare(request_)
    file = first.folder / "train.arrow"
    flip(file, file.read_bytes().index(noise(1).tobytes()))
    assert not np.array_equal(prepare(request_).open("train").chunks[0][0], noise(1))
    again = prepare(request_, verify=True)
    assert np.array_equal(again.open("train").chunks[0][0], noise(1))
    again.verify()


def test_a_file_exchanged_for_another_is_not_opened(
    request_: DataRequest, data: Path, tmp_path: Path
) -> None:
    first = prepare(request_)
    shutil.copytree(data, tmp_path / "other")
    Image.fromarray(noise(999)).save(tmp_path / "other/train/bee/0000.png")
    other = prepare(replace(request_, path=str(tmp_path / "other")))
    shutil.copy(other.folder / "train.arrow", first.folder / "train.arrow")
    with pytest.raises(Mistake, match=r"was altered .*'bee'.*delete that folder"):
        prepare(request_).open("train")


def test_training_images_open_while_the_test_file_is_unreadable(request_: DataRequest) -> None:
    """A search run opens only the manifest and train.arrow."""
    first = prepare(request_)
    test = first.folder / "test.arrow"
    test.write_bytes(b"\0" * test.stat().st_size)
    found = prepare(request_, first.fingerprint)
    assert len(found.open("train", ("ant", "cow"))) == 9
    with pytest.raises(Mistake, match="was altered"):
        found.open("test")


def _interrupted(request_: DataRequest, hang: bool) -> None:
    prepare(request_, progress=lambda done, total: time.sleep(600) if hang else None)


def children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def alive(process: int) -> bool:
    """Return whether a process runs; a zombie has no command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_killed_preparation_leaves_nothing_behind(tmp_path: Path) -> None:
    """Kill it with -9 while it holds the lock and writes, with decoders running; then run it again."""
    write_folder(tmp_path / "data", {"train": {"ant": 150, "bee": 150}, "test": {"ant": 2, "bee": 2}})
    request_ = folder_request(tmp_path / "data", tmp_path / "cache")
    process = FORK.Process(target=_interrupted, args=(request_, True))
    process.start()
    assert process.pid is not None
    wait_for(lambda: list(request_.cache_folder.glob(".*.partial/train.arrow")))
    time.sleep(0.3)
    decoders = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(request_.cache_folder.glob(".*.partial"))) == 1
    batches = 2 * 3 + 2 * 1  # of 64: 150 training and 2 test images per class
    cpus = build.usable_cpus()
    assert len(decoders) == (min(cpus, batches) if cpus > 1 else 0)
    start = time.monotonic()
    prepared = prepare(request_, verify=True)
    assert time.monotonic() - start < LOCK_TIMEOUT / 10  # it did not wait for the dead process's lock
    assert prepared.counts == {"train": (150, 150), "test": (2, 2)}
    assert sorted(path.name for path in request_.cache_folder.iterdir()) == sorted(
        [prepared.folder.name, prepared.folder.name.rpartition("-")[0] + ".lock"]
    )
    wait_for(lambda: not any(map(alive, decoders)))


def test_leftovers_of_other_machines_go_when_they_are_old(request_: DataRequest) -> None:
    live = request_.cache_folder / ".x.elsewhere.1.aa.partial"
    dead = request_.cache_folder / ".x.elsewhere.1.bb.partial"
    for folder in (live, dead):
        folder.mkdir(parents=True)
        (folder / "train.arrow").write_bytes(b"some")
    for path in (dead, dead / "train.arrow"):
        os.utime(path, (time.time() - 7200,) * 2)
    prepare(request_)
    assert (live.exists(), dead.exists()) == (True, False)


def _prepare_and_tell(request_: DataRequest, barrier: object, pipe: Connection) -> None:
    told: list = []
    barrier.wait()  # type: ignore[attr-defined]
    prepared = prepare(request_, progress=lambda *counts: told.append(counts))
    pipe.send((bool(told), file_ids(prepared), prepared.fingerprint))


def test_one_of_several_processes_prepares_and_the_others_wait(request_: DataRequest) -> None:
    barrier = FORK.Barrier(4)
    pipes = [FORK.Pipe() for _ in range(4)]
    processes = [FORK.Process(target=_prepare_and_tell, args=(request_, barrier, mine)) for _, mine in pipes]
    for process in processes:
        process.start()
    try:
        answers = [theirs.recv() if theirs.poll(120) else None for theirs, _ in pipes]
    finally:
        for process in processes:
            process.kill()
    assert None not in answers, "a process gave no answer"
    assert sorted(worked for worked, _, _ in answers) == [False, False, False, True]
    assert len({tuple(ids) for _, ids, _ in answers}) == 1


def test_the_result_is_the_same_without_locks(request_: DataRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes prepare; the later one finds a folder with the same name and content."""
    from trainables.data import cache as module

    monkeypatch.setattr(module, "FileLock", lambda path, timeout: _NoLock())
    first = prepare(request_)
    monkeypatch.setattr(module, "_find", _blind_once(module._find))
    assert prepare(request_) == first
    assert len([path for path in request_.cache_folder.iterdir() if path.is_dir()]) == 1


class _NoLock:
    def acquire(self) -> None:
        raise NotImplementedError


def _blind_once(find: Callable) -> Callable:
    """Find nothing twice, like a process that looked before the other one was done."""
    left = [2]

    def look(*args: object) -> object:
        left[0] -= 1
        return None if left[0] >= 0 else find(*args)

    return look


def test_progress_counts_every_image_at_most_ten_times_a_second(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "data", {"train": {"ant": 200, "bee": 100}, "test": {"ant": 5, "bee": 5}}, side=64
    )
    told: list[tuple[int, int]] = []
    start = time.monotonic()
    prepare(
        folder_request(tmp_path / "data", tmp_path / "cache"), progress=lambda *counts: told.append(counts)
    )
    assert told[-1] == (310, 310)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) <= (time.monotonic() - start) * 10 + 1


def test_bad_images_are_named_or_left_out_on_request(request_: DataRequest, data: Path) -> None:
    whole = (data / "train/bee/0001.png").read_bytes()
    (data / "train/bee/0001.png").write_bytes(whole[:-30])
    (data / "test/cow/0009.png").write_bytes(b"no image")
    with pytest.raises(Mistake, match=r"train/bee/0001.png is not an image .*--set skip_bad_images=true"):
        prepare(request_)
    prepared = prepare(replace(request_, skip_bad_images=True))
    assert prepared.skipped == (str(data / "train/bee/0001.png"), str(data / "test/cow/0009.png"))
    assert prepared.counts == {"train": (4, 2, 5), "test": (2, 2, 1)}
    assert prepared.open("train").indices.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    with pytest.raises(Mistake, match="is not an image"):
        prepare(request_)


def test_a_class_of_bad_images_only_is_a_mistake(request_: DataRequest, data: Path) -> None:
    (data / "test/cow/0000.png").write_bytes(b"no image")
    with pytest.raises(Mistake, match="No test image of the class 'cow' can be read"):
        prepare(replace(request_, skip_bad_images=True))


def test_a_file_that_vanishes_is_never_skipped(request_: DataRequest, data: Path) -> None:
    (data / "train/ant/0002.png").unlink()
    (data / "train/ant/0002.png").symlink_to(data / "nowhere.png")
    with pytest.raises(Mistake, match=r"nowhere|0002.png.* cannot be read"):
        prepare(replace(request_, skip_bad_images=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("ant", "bee", "ox")}, "lacks ox and also holds cow.*image-folder"),
        ({"classes": ("ant", "bee")}, "also holds cow"),
        (
            {"classes": ("ant", "bee", "cow"), "train_counts": (4, 3, 6)},
            "has 5 train images of the class 'cow' where the benchmark has 6",
        ),
        (
            {"classes": ("ant", "bee", "cow"), "test_counts": (2, 1, 1)},
            "has 2 test images of the class 'bee' where the benchmark has 1",
        ),
    ],
)
def test_data_of_another_benchmark_is_refused(request_: DataRequest, changes: dict, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        prepare(replace(request_, **changes))


def test_the_benchmarks_order_of_classes_holds(request_: DataRequest) -> None:
    prepared = prepare(
        replace(request_, classes=("cow", "ant", "bee"), train_counts=(5, 4, 3), test_counts=(1, 2, 2))
    )
    assert prepared.classes == ("cow", "ant", "bee")
    assert prepared.counts["train"] == (5, 4, 3)
    assert prepared.open("train").indices.tolist() == [7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6]


def test_one_class_is_too_few(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"train": {"ant": 4}, "test": {"ant": 2}})
    with pytest.raises(Mistake, match="only the class 'ant'"):
        prepare(folder_request(tmp_path / "data", tmp_path / "cache"))


def test_a_cache_that_cannot_be_used_is_a_mistake(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Mistake, match="name another one with --cache"):
            prepare(folder_request(data, cache))


def test_the_users_cache_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request_ = folder_request(tmp_path, Path())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert replace(request_, cache="").cache_folder == tmp_path / "holdout-sweeps"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert replace(request_, cache="").cache_folder == tmp_path / "home/.cache/holdout-sweeps"


def test_a_source_that_changed_is_prepared_again(request_: DataRequest, data: Path) -> None:
    first = prepare(request_)
    Image.fromarray(noise(77)).save(data / "train/ant/0004.png")
    second = prepare(request_)
    assert second.counts["train"] == (5, 3, 5)
    assert prepare(request_, first.fingerprint) == first


def test_test_images_of_a_folder_keep_their_files(data: Path, request_: DataRequest) -> None:
    (data / "test" / "ant" / "deeper").mkdir()
    shutil.move(data / "test" / "ant" / "0001.png", data / "test" / "ant" / "deeper" / "é.png")
    prepared = prepare(request_)
    files = prepared.test_files
    assert files is not None
    assert sorted(files) == [
        "test/ant/0000.png",
        "test/ant/deeper/é.png",
        "test/bee/0000.png",
        "test/bee/0001.png",
        "test/cow/0000.png",
    ]
    images = prepared.open("test")
    for row, index in enumerate(images.indices.tolist()):
        with Image.open(data / files[index]) as image:
            np.testing.assert_array_equal(images.gather(torch.tensor([row]))[0].numpy(), np.asarray(image))


def test_test_images_that_were_set_aside_keep_their_files(tmp_path: Path) -> None:
    for path in write_folder(tmp_path / "data", {"all": {"ant": 5, "bee": 5}}):
        assert Path(path).exists()
    prepared = prepare(folder_request(tmp_path / "data" / "all", tmp_path / "cache"))
    files = prepared.test_files
    assert files is not None
    assert len(files) == 2
    for row, index in enumerate(prepared.open("test").indices.tolist()):
        with Image.open(tmp_path / "data" / "all" / files[index]) as image:
            np.testing.assert_array_equal(
                prepared.open("test").gather(torch.tensor([row]))[0].numpy(), np.asarray(image)
            )


def test_images_without_files_have_none(digits: Prepared) -> None:
    assert digits.test_files is None


def test_test_images_that_are_training_images_are_counted_and_named(
    data: Path, request_: DataRequest
) -> None:
    assert prepare(request_).repeated == Repeated(0, ())
    pairs = []
    for place, name in enumerate(("ant/0000.png", "ant/0001.png", "bee/0001.png", "cow/0000.png")):
        whole = (data / "train" / "cow" / f"000{place}.png").read_bytes()
        (data / "test" / name).write_bytes(whole)
        pairs.append((str(data / "test" / name), str(data / "train" / "cow" / f"000{place}.png")))
    found = prepare(request_)
    assert found.repeated == Repeated(4, tuple(pairs[:3]))
    assert prepare(request_, found.fingerprint).repeated == found.repeated  # of the folder in the cache

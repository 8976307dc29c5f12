"""Tables of images: rows, gathering, devices, and no access to what was not opened."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.images import noise
from tests.sweeps import ROOT
from trainables.data import image_table
from trainables.data.image_file import DamagedError, SplitWriter, open_classes, verify
from trainables.data.image_table import ImageTable, fits, free_memory

ARRAYS = {
    name: np.stack([noise(100 * place + i, side=4) for i in range(count)])
    for place, (name, count) in enumerate([("ant", 5), ("bee", 7), ("cow", 3)])
}
ALL = np.concatenate(list(ARRAYS.values()))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Write a file with three classes; indices are descending, so that they differ from rows."""
    file = str(tmp_path / "train.arrow")
    with SplitWriter(file, "train", list(ARRAYS), side=4, channels=3) as writer:
        for name, pixels in ARRAYS.items():
            writer.write(name, pixels, np.arange(100, 100 - len(pixels), -1))
    return file


def test_a_file_gives_back_pixels_indices_and_order(path: str) -> None:
    table = ImageTable.of("train", open_classes(path, "train", ["ant", "bee", "cow"]))
    assert (table.split, table.classes, table.counts) == ("train", ("ant", "bee", "cow"), (5, 7, 3))
    assert (len(table), table.side, table.channels) == (15, 4, 3)
    assert np.array_equal(table.gather(torch.arange(15)).numpy(), ALL)
    assert table.indices.tolist() == [*range(100, 95, -1), *range(100, 93, -1), *range(100, 97, -1)]
    assert [table.rows_of(name) for name in table.classes] == [range(5), range(5, 12), range(12, 15)]


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 14), max_size=40), device=st.sampled_from(["mapped", "copied"]))
def test_gather_is_indexing(rows: list[int], device: str) -> None:
    table = ImageTable.from_arrays("test", ARRAYS)
    table = table.to("cpu") if device == "copied" else table
    gathered = table.gather(torch.tensor(rows, dtype=torch.int64))
    assert gathered.is_contiguous()
    assert gathered.dtype == torch.uint8
    assert np.array_equal(gathered.numpy(), ALL[rows])


@pytest.mark.parametrize("row", [-1, 15])
def test_rows_beyond_the_table_are_refused(row: int) -> None:
    for table in (ImageTable.from_arrays("test", ARRAYS), ImageTable.from_arrays("test", ARRAYS).to("cpu")):
        with pytest.raises(IndexError):
            table.gather(torch.tensor([0, row]))


def test_small_tables_are_joined_on_the_cpu_and_large_ones_stay_mapped(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    table = ImageTable.of("train", open_classes(path, "train", ["ant", "cow"]))
    joined = table.to("cpu")
    assert len(joined.chunks) == 1
    assert joined.to("cpu").chunks[0] is joined.chunks[0]
    assert (joined.digest, joined.rows_of("cow")) == (table.digest, range(5, 8))
    assert torch.equal(joined.gather(torch.arange(8)), table.gather(torch.arange(8)))
    monkeypatch.setattr(image_table, "JOINED_UP_TO", 100)
    assert all(kept is chunk for kept, chunk in zip(table.to("cpu").chunks, table.chunks, strict=True))


def test_a_table_fits_if_it_leaves_most_of_the_free_memory() -> None:
    assert fits(10**9, None)
    assert fits(10**9, 8 * 10**9)
    assert not fits(10**9 + 1, 8 * 10**9)
    assert not fits(1, 0)
    assert free_memory(torch.device("cpu")) is None


@pytest.mark.parametrize("small", [0, 10**6])
@pytest.mark.parametrize(("free", "home"), [(8 * 15 * 48, "meta"), (8 * 15 * 48 - 1, "cpu")])
def test_a_table_that_does_not_fit_stays_on_the_cpu_and_copies_batches(
    monkeypatch: pytest.MonkeyPatch, free: int, home: str, small: int
) -> None:
    """15 images of 48 bytes, and a device with room for eight times that, or one byte less."""
    asked = []
    monkeypatch.setattr(image_table, "JOINED_UP_TO", small)
    monkeypatch.setattr(image_table, "free_memory", lambda device: asked.append(device.type) or free)
    table = ImageTable.from_arrays("test", ARRAYS).to("meta")
    assert asked == ["meta"]
    assert {chunk.device.type for chunk in table.chunks} == {home}
    gathered = table.gather(torch.tensor([14, 0, 3]))
    assert (gathered.device.type, gathered.dtype, gathered.shape) == ("meta", torch.uint8, (3, 4, 4, 3))
    assert table.device.type == "meta"
    if home == "cpu":
        back = table.to("cpu")
        assert np.array_equal(back.gather(torch.tensor([14, 0, 3])).numpy(), ALL[[14, 0, 3]])


@pytest.mark.gpu
def test_a_table_moves_to_a_gpu_and_back() -> None:
    moved = ImageTable.from_arrays("test", ARRAYS).to("cuda")
    assert moved.gather(torch.tensor([14, 0])).device.type == "cuda"
    assert np.array_equal(moved.gather(torch.tensor([14, 0])).cpu().numpy(), ALL[[14, 0]])


def test_the_digest_depends_on_split_and_classes(path: str) -> None:
    def digest(classes: list[str], split: str = "train") -> str:
        return ImageTable.of(split, open_classes(path, "train", classes)).digest

    assert digest(["ant"]) == digest(["ant"])
    assert len({digest(["ant"]), digest(["bee"]), digest(["ant", "bee"]), digest(["ant"], "test")}) == 4


def test_a_table_has_no_access_to_other_classes(path: str) -> None:
    table = ImageTable.of("train", open_classes(path, "train", ["ant", "cow"]))
    sizes = [chunk.untyped_storage().nbytes() for chunk in table.chunks]
    assert sizes == [ARRAYS["ant"].nbytes, ARRAYS["cow"].nbytes]
    reached, waiting = {}, [table]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in reached and not isinstance(thing, type | ModuleType | FunctionType):
            reached[id(thing)] = thing
            waiting += gc.get_referents(thing)
    assert any(thing is table.chunks[0] for thing in reached.values())
    hidden = ARRAYS["bee"][0].tobytes()
    for thing in reached.values():
        if isinstance(thing, torch.Tensor):
            assert hidden not in bytes(thing.untyped_storage())
        assert not isinstance(thing, mmap.mmap | np.ndarray | bytes | pa.Buffer)


def test_writing_to_a_mapped_table_does_not_reach_the_file(path: str) -> None:
    before = Path(path).read_bytes()
    ImageTable.of("train", open_classes(path, "train", ["ant"])).chunks[0].zero_()
    assert Path(path).read_bytes() == before
    verify(open_classes(path, "train", list(ARRAYS)))


def test_empty_classes_can_be_opened(tmp_path: Path) -> None:
    with SplitWriter(str(tmp_path / "x"), "test", ["none"], side=4, channels=1) as writer:
        writer.write("none", np.empty((0, 4, 4, 1), np.uint8), np.empty(0, np.int64))
    (opened,) = open_classes(str(tmp_path / "x"), "test", ["none"])
    assert opened.pixels.shape == (0, 4, 4, 1)


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 1000, -1, -200])
def test_a_truncated_file_is_damaged(path: str, keep: int) -> None:
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:keep])
    with pytest.raises(DamagedError):
        verify(open_classes(path, "train", list(ARRAYS)))


def test_a_changed_byte_and_a_wrong_split_are_damage(path: str) -> None:
    with pytest.raises(DamagedError, match="'train' images"):
        open_classes(path, "test", ["ant"])
    whole = bytearray(Path(path).read_bytes())
    whole[whole.index(ARRAYS["bee"].tobytes()) + 5] ^= 1
    Path(path).write_bytes(whole)
    verify(open_classes(path, "train", ["ant", "cow"]))
    with pytest.raises(DamagedError, match="'bee'"):
        verify(open_classes(path, "train", ["bee"]))


def test_any_arrow_library_reads_the_file(path: str) -> None:
    table = pa.ipc.open_file(path).read_all()
    assert table.column_names == ["image", "index"]
    pixels = table["image"].combine_chunks().to_numpy_ndarray()
    assert np.array_equal(pixels, ALL)


MEASURE = """
import sys, time, torch
from trainables.data.image_file import open_classes
from trainables.data.image_table import ImageTable
def memory():
    lines = open("/proc/self/smaps_rollup").read().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kib["Private_Clean"] + kib["Private_Dirty"], kib["Rss"]
open_classes(sys.argv[1], "train", ["0"])
before = memory()
def timed():
    start = time.perf_counter()
    table = ImageTable.of("train", open_classes(sys.argv[1], "train", [str(n) for n in range(10)]))
    return time.perf_counter() - start, table
seconds = min(timed()[0] for _ in range(5))  # a busy machine may delay any one of them
table = timed()[1]
opened = memory()
total = sum(int(chunk.sum()) for chunk in table.chunks)
touched = memory()
time.sleep(1)  # Arrow's threads keep the whole file mapped some milliseconds longer
mapped = sum(int(m.split()[0].split("-")[1], 16) - int(m.split()[0].split("-")[0], 16)
             for m in open("/proc/self/maps") if sys.argv[1] in m)
print(seconds, opened[0] - before[0], touched[0] - before[0], touched[1] - before[1], mapped)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_opening_is_instant_and_pages_are_shared(tmp_path: Path) -> None:
    """Two processes open and read 100 MB; neither has private pages."""
    path, size = str(tmp_path / "train.arrow"), 10 * 1000 * 100 * 100
    with SplitWriter(path, "train", [str(n) for n in range(10)], side=100, channels=1) as writer:
        for n in range(10):
            writer.write(str(n), np.full((1000, 100, 100, 1), n, np.uint8), np.arange(1000))
    held = [opened.pixels for opened in open_classes(path, "train", [str(n) for n in range(10)])]
    assert [int(pixels.sum()) for pixels in held] == [n * 10**7 for n in range(10)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, opened, touched, resident, mapped = (float(word) for word in done.stdout.split())
    assert seconds < 0.1
    assert opened < 4 * 1024  # KiB
    assert touched < 8 * 1024
    assert resident > 0.9 * size / 1024
    assert mapped <= size + 10 * 2 * 4096

"""Sources that are not what they seem: no hang, no memory without bounds, and a sentence names the file."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.images import folder_request, noise, write_folder
from tests.sweeps import ROOT
from trainables.data import image_sets
from trainables.data.cache import prepare
from trainables.data.image_sets import load_images
from trainables.data.readers import parquet, pixels
from trainables.data.readers.pixels import MOST_PIXELS, square_pixels
from trainables.data.readers.source import files_under
from trainables.mistake import Mistake

COUNTS = {split: {"ant": 3, "bee": 3} for split in ("train", "test")}
DEADLINE = 60


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """What waits for a pipe ends as a failure."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {DEADLINE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def traced() -> Iterator[list[int]]:
    """Give a list that in the end holds the most bytes of Python's memory that were added meanwhile."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(sink, kind, **options)
    return sink.getvalue()


PNG = encoded(noise(1))


def empty_png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size and whose pixels are hardly there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def bind_socket(path: Path) -> None:
    """Make a socket at a path, which may be longer than a socket's address can be."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


NOT_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "it is a named pipe, not a file"),
    "a socket": (bind_socket, "it is a socket, not a file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "an empty file": (lambda path: path.write_bytes(b""), "it is empty"),
    "text": (lambda path: path.write_text("no image"), "it is none of PNG, JPEG"),
    "a cut JPEG": (
        lambda path: path.write_bytes(encoded(noise(1, 64), "JPEG")[:700]),
        "image file is truncated",
    ),
    "PostScript": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "none of",
    ),
    "144 megapixels": (
        lambda path: path.write_bytes(empty_png(12000, 12000)),
        "it has 12000x12000 pixels, more",
    ),
    "3600 megapixels": (
        lambda path: path.write_bytes(empty_png(60000, 60000)),
        f"more than {MOST_PIXELS:,} pixels",
    ),
    "a thread": (lambda path: path.write_bytes(empty_png(1, 10**7)), "it is 1x10000000, too long"),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_a_file_that_is_no_image_is_named_with_what_it_is(tmp_path: Path, kind: str) -> None:
    make, said = NOT_IMAGES[kind]
    write_folder(tmp_path / "data", COUNTS)
    make(tmp_path / "data/train/bee/odd.png")
    request = folder_request(tmp_path / "data", tmp_path / "cache")
    with pytest.raises(Mistake, match=rf"train/bee/odd\.png .*{re.escape(said)}"):
        prepare(request)
    with pytest.raises(Mistake, match=rf"odd\.png .*{re.escape(said)}"):
        load_images("set", str(tmp_path / "data/train/bee"), side=8, channels=3, resize="box")
    if kind == "a link to itself":
        return  # of no use to skip: it may be the disk that is away
    prepared = prepare(replace(request, skip_bad_images=True))
    assert prepared.skipped == (str(tmp_path / "data/train/bee/odd.png"),)
    assert prepared.counts == {"train": (3, 3), "test": (3, 3)}


def test_a_link_to_itself_that_is_called_like_no_image_is_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", COUNTS)
    (tmp_path / "data/train/bee/self").symlink_to("self")
    (tmp_path / "data/train/bee/here").symlink_to(".")
    os.mkfifo(tmp_path / "data/train/bee/pipe")
    assert prepare(folder_request(tmp_path / "data", tmp_path / "cache")).counts["train"] == (3, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"caf\xe9", r"'caf\\udce9'"),
        (b"two\nlines", r"'two\\nlines'"),
        (b"\x1b[31mred", r"'\\x1b\[31mred'"),
        ("\u202eelgae".encode(), r"'\\u202eelgae'"),
    ],
)
def test_a_class_folder_whose_name_cannot_be_shown_is_refused(tmp_path: Path, name: bytes, said: str) -> None:
    write_folder(tmp_path / "data", COUNTS)
    for split in COUNTS:
        os.rename(
            tmp_path / "data" / split / "bee", os.path.join(os.fsencode(tmp_path / "data" / split), name)
        )
    with pytest.raises(Mistake, match=rf"{said}, which cannot be a class's name: rename it") as raised:
        prepare(folder_request(tmp_path / "data", tmp_path / "cache"))
    assert str(raised.value).isprintable()


def test_names_of_files_may_be_anything_and_are_recorded_as_text(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", COUNTS)
    folder = os.fsencode(tmp_path / "data/test/bee")
    names = [b"caf\xe9.png", b"two\nlines.png", "🐝🇩🇪.png".encode(), b"x" * 251 + b".png"]
    for name in names:
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(PNG)
    prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache"))
    assert prepared.counts["test"] == (3, 7)
    assert prepared.test_files is not None
    assert pa.array(prepared.test_files).to_pylist()[-4:] == [
        r"test/bee/caf\udce9.png", "test/bee/two\nlines.png", f"test/bee/{'x' * 251}.png", "test/bee/🐝🇩🇪.png"
    ]  # fmt: skip


def test_a_bad_image_with_an_odd_name_is_named_on_one_line(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", COUNTS)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/test/bee/\x1b]0;\n\xe9.png")).write_bytes(b"")
    with pytest.raises(Mistake, match=r"test/bee/\\x1b\]0;\\n\\udce9\.png is not an image") as raised:
        prepare(folder_request(tmp_path / "data", tmp_path / "cache"))
    assert str(raised.value).isprintable()


def test_folders_called_like_images_and_deep_ones_are_walked(tmp_path: Path) -> None:
    deep = tmp_path / "train" / "bee.png" / "inner.png"
    deep.mkdir(parents=True)
    (deep / "a.png").write_bytes(PNG)
    assert list(files_under(tmp_path)) == [str(deep / "a.png")]
    here = os.getcwd()
    os.chdir(deep)
    try:  # deeper than Python's own stack
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
        Path("b.png").write_bytes(PNG)
    finally:
        os.chdir(here)
    found = list(files_under(tmp_path))
    assert [Path(path).name for path in found] == ["a.png", "b.png"]
    subprocess.run(["rm", "-r", str(deep)], check=True)  # shutil.rmtree recurses


@pytest.mark.parametrize(
    "place", ["x" * 300, "pipe", "pipe.parquet", "self", "self/below", "file", "deep/" * 900]
)
def test_a_place_that_cannot_hold_data_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "file").write_bytes(b"")
    for name in ("pipe", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(Mistake, match=re.escape(place.rstrip("/")[:200])):
        prepare(folder_request(tmp_path / place, tmp_path / "cache"))
    with pytest.raises(Mistake, match=re.escape(place.rstrip("/")[:200])):
        load_images("set", str(tmp_path / place), side=8, channels=3)


UNREADABLE = """
import os, sys
from PIL import Image
from trainables.data.cache import prepare
from trainables.data.readers import image_folder, parquet
from trainables.data.readers.request import DataRequest
Image.init()
data, cache, *places = sys.argv[1:]
if os.geteuid() == 0:
    os.chown(data, 65534, 65534)
    for here, folders, files in os.walk(data):
        for name in (*folders, *files):
            os.chown(os.path.join(here, name), 65534, 65534)
    os.setuid(65534)
for place in places:
    os.chmod(os.path.join(data, place), 0)
    try:
        prepare(DataRequest("image_folder", data, 8, 3, cache=cache))
    except Exception as error:
        print(type(error).__name__, error)
    os.chmod(os.path.join(data, place), 0o755)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give an empty folder that any user can reach, as those of pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_what_may_not_be_read_is_said_and_not_left_out(open_folder: Path) -> None:
    data, cache = open_folder / "data", open_folder / "cache"
    write_folder(data, {"train": {"ant": 2, "bee": 2, "bee/deeper": 2}, "test": {"ant": 1, "bee": 1}})
    cache.mkdir()
    cache.chmod(0o777)
    places = ["train/bee/deeper", "train/bee/deeper/0000.png", "train"]
    command = [sys.executable, "-c", UNREADABLE, str(data), str(cache), *places]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for place, line in zip(places, said, strict=True):
        assert re.match(rf"Mistake .*data/{place}.* cannot be read \(Permission denied\)", line)


MODES: dict[str, tuple[Callable[[], bytes], tuple[int, int, int]]] = {
    "CMYK": (lambda: encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "16 bits": (lambda: encoded(np.full((8, 8), 51 * 257, np.uint16)), (51, 51, 51)),
    "32 bits": (lambda: encoded(Image.new("I", (8, 8), 51 * 257), "TIFF"), (51, 51, 51)),
    "palette": (lambda: encoded(Image.new("RGB", (8, 8), (255, 0, 0)).quantize(2)), (255, 0, 0)),
    "alpha": (lambda: encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))), (255, 255, 255)),
    "one bit": (lambda: encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
    "many frames of a GIF": (lambda: frames("GIF"), (255, 0, 0)),
    "many frames of a PNG": (lambda: frames("PNG"), (255, 0, 0)),
    "many frames of a TIFF": (lambda: frames("TIFF"), (255, 0, 0)),
    "many frames of a WebP": (lambda: frames("WEBP", lossless=True), (255, 0, 0)),
}


def frames(kind: str, **options: object) -> bytes:
    """Return an animation whose first frame is red, and 300 others of noise."""
    others = [Image.fromarray(noise(number)) for number in range(300)]
    return encoded(
        Image.new("RGB", (8, 8), (255, 0, 0)), kind, save_all=True, append_images=others, **options
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_pixels_is_brought_to_rgb(mode: str) -> None:
    make, colour = MODES[mode]
    found = square_pixels(make(), 8, 3, oriented=True)
    assert np.abs(found.astype(int) - colour).max() <= 1


def test_only_the_first_of_many_frames_is_decoded() -> None:
    large = [Image.fromarray(noise(number, 256)) for number in range(40)]
    data = encoded(large[0], "TIFF", save_all=True, append_images=large[1:])
    square_pixels(PNG, 8, 3, oriented=True)
    with traced() as peak:
        square_pixels(data, 8, 3, oriented=True)
    assert peak[0] < 4 * 256 * 256 * 3


def bad_parquet(path: Path, images: list, labels: object) -> None:
    pq.write_table(pa.table({"image": images, "label": labels}), path)


# fmt: off
PARQUET: dict[str, tuple[Callable[[Path], object], str]] = {
    "null image": (lambda p: bad_parquet(p, [PNG, None, PNG, PNG], list("abab")), "row 1 of .*it is empty"),
    "null label": (lambda p: bad_parquet(p, [PNG] * 4, ["a", None, "b", "b"]), "Row 1 of .*has no label"),
    "floats": (lambda p: bad_parquet(p, [PNG] * 2, [0.5, 1.0]), "of type double: labels are numbers"),
    "nested labels": (lambda p: bad_parquet(p, [PNG] * 2, [{"a": 1}, {"a": 2}]), "labels are numbers"),
    "text images": (lambda p: bad_parquet(p, ["a", "b"], ["a", "b"]), "no image column.*image .string"),
    "lists of bytes": (lambda p: bad_parquet(p, [{"bytes": [1]}] * 2, ["a", "b"]), "no image column"),
    "no bytes": (
        lambda p: bad_parquet(p, [{"bytes": b""}, None] * 2, list("aabb")),
        "row [013] .*it is empty",
    ),
    "long label": (lambda p: bad_parquet(p, [PNG] * 2, ["a", "9" * 5000]), r"9'\.\.\. \(5000 characters\)"),
    "odd label": (lambda p: bad_parquet(p, [PNG] * 4, ["a", "a", "b\n", "b\n"]), r"'b\\n'.* rename it"),
    "no name": (lambda p: bad_parquet(p, [PNG] * 4, ["a", "a", "", ""]), "called '', which cannot be"),
    "cut": (lambda p: (bad_parquet(p, [PNG] * 4, list("abab")), os.truncate(p, 400)), "is not a Parquet"),
    "a folder": (lambda p: p.mkdir(), "does not exist|no folder of a class|is no file"),
    "one row": (lambda p: bad_parquet(p, [PNG] * 3, list("aab")), "class 'b' has 1 image"),
    "nothing": (lambda p: bad_parquet(p, pa.array([], pa.binary()), pa.array([], pa.string())), "no class"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet_that_cannot_be_used_is_explained(tmp_path: Path, kind: str) -> None:
    make, said = PARQUET[kind]
    make(tmp_path / "mine.parquet")
    with pytest.raises(Mistake, match=said) as raised:
        prepare(folder_request(tmp_path / "mine.parquet", tmp_path / "cache"))
    assert "BytesIO" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_parquet_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SLACK", 2**22)
    image = PNG + bytes(2**20)
    for how in ({"compression": "zstd", "use_dictionary": False}, {"use_dictionary": ["image"]}):
        table = pa.table({"image": [image] * 64, "label": list("ab") * 32})
        pq.write_table(table, tmp_path / "mine.parquet", **how)  # type: ignore[arg-type]
        with pytest.raises(Mistake, match=r"mine\.parquet .*unpacks to more than 100 times its size"):
            prepare(folder_request(tmp_path / "mine.parquet", tmp_path / "cache"))
        with pytest.raises(Mistake, match=r"mine\.parquet .*unpacks to more than 100 times its size"):
            load_images("set", str(tmp_path / "mine.parquet"), side=8, channels=3)


def test_claims_of_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_ROWS_IN_LITTLE", 1000)
    table = pa.table({"image": pa.array([b""] * 50000), "label": pa.array(["a"] * 50000)})
    pq.write_table(table, tmp_path / "mine.parquet")
    with pytest.raises(Mistake, match="it claims 50,000 rows"):
        prepare(folder_request(tmp_path / "mine.parquet", tmp_path / "cache"))


class Planted:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "executed")


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "arrow.opaque", "arrow.fixed_shape_tensor"])
def test_extension_types_of_a_parquet_file_run_nothing(tmp_path: Path, name: str) -> None:
    import pickle

    metadata = {
        "ARROW:extension:name": name,
        "ARROW:extension:metadata": pickle.dumps(Planted(tmp_path / "planted"), 0),
    }
    fields = [pa.field("image", pa.binary(), metadata=metadata), pa.field("label", pa.string())]
    pq.write_table(pa.table([[PNG] * 4, list("abab")], pa.schema(fields)), tmp_path / "mine.parquet")
    try:
        prepared = prepare(folder_request(tmp_path / "mine.parquet", tmp_path / "cache"))
        assert prepared.classes == ("a", "b")
    except Mistake as mistake:
        assert "mine.parquet" in str(mistake)  # noqa: PT017
    assert not (tmp_path / "planted").exists()


def archive(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = archive(inside / "set.tar.gz", {"../out.png": PNG, "/tmp/../abs.png": PNG, "fine.png": PNG})
    with tarfile.open(inside / "links.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"odd{kind!r}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert len(load_images("set", str(path), side=8, channels=3).pixels) == 3
    with pytest.raises(Mistake, match="holds no image"):
        load_images("set", str(inside / "links.tar"), side=8, channels=3)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["links.tar", "set.tar.gz"]


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_images("set", str(archive(tmp_path / "fine.tar.xz", {"fine.png": PNG}, "w:xz")), side=8, channels=3)
    monkeypatch.setattr(image_sets, "MOST_HELD", 2**20)
    for name in ("large.png", "notes.txt"):
        path = archive(tmp_path / "set.tar.gz", {name: bytes(2**21), "fine.png": PNG})
        with traced() as peak, pytest.raises(Mistake, match="unpacks to more than .*name the folder of its"):
            load_images("set", str(path), side=8, channels=3)
        assert peak[0] < 2**20


def test_a_long_note_on_a_member_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {"comment": "x" * 2**22}
        tar.addfile(member)
    with pytest.raises(Mistake, match=r"set\.tar\.gz is not an archive .*notes claim"):
        load_images("set", str(tmp_path / "set.tar.gz"), side=8, channels=3)


CACHE: dict[str, Callable[[Path], object]] = {
    "foreign manifest": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "list for a manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "pipe for a manifest": lambda folder: (
        (folder / "manifest.json").unlink(),
        os.mkfifo(folder / "manifest.json"),
    ),
    "flipped file name": lambda folder: edit(folder / "manifest.json", b"test/bee/0001", b"test/bee/0007"),
    "flipped length": lambda folder: edit(
        folder / "manifest.json", b'"bytes": {"train": ', b'"bytes": {"train": 1'
    ),
    "pipe for images": lambda folder: ((folder / "test.arrow").unlink(), os.mkfifo(folder / "test.arrow")),
}


def edit(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new))


@pytest.mark.parametrize("damage", CACHE)
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    write_folder(tmp_path / "data", COUNTS)
    request = folder_request(tmp_path / "data", tmp_path / "cache")
    first = prepare(request)
    CACHE[damage](first.folder)
    again = prepare(request)
    assert again == first
    assert again.test_files == first.test_files
    assert len(again.open("train")) == 6


def test_a_cache_of_version_0_1_is_still_opened(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", COUNTS)
    request = folder_request(tmp_path / "data", tmp_path / "cache")
    first = prepare(request)
    manifest = json.loads((first.folder / "manifest.json").read_text())
    del manifest["digest"], manifest["test_files"]
    (first.folder / "manifest.json").write_text(json.dumps(manifest))
    assert prepare(request) == first
    assert json.loads((first.folder / "manifest.json").read_text()) == manifest


def test_a_file_that_was_cut_since_it_was_found_is_not_mapped(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {split: {"ant": 40, "bee": 40} for split in COUNTS})
    prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache"))
    os.truncate(prepared.folder / "train.arrow", 4096)
    with pytest.raises(
        Mistake, match="was altered .*train.arrow does not have its length.*delete that folder"
    ):
        prepared.open("train")


def test_no_more_than_two_classes_are_in_memory(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(6)]
    for split in COUNTS:
        for name in names:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(10):
                (tmp_path / "data" / split / name / f"{number}.png").write_bytes(PNG)
    side = 256
    prepare(folder_request(tmp_path / "data", tmp_path / "cache"))  # imports count, too
    with traced() as peak:
        prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache", side=side))
    a_class = 10 * side * side * 3
    assert sum(prepared.counts["train"]) == 60
    assert 2 * a_class < peak[0] < 2.6 * a_class


def test_an_image_set_is_in_memory_once(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    load_images("set", str(tmp_path), side=8, channels=3)
    with traced() as peak:
        found = load_images("set", str(tmp_path), side=512, channels=3, resize="box")
    assert found.pixels.nbytes == 40 * 512 * 512 * 3
    assert peak[0] < 1.3 * found.pixels.nbytes + image_sets.GROWTH


def test_the_bound_on_pixels_is_pillow_s_own() -> None:
    assert Image.MAX_IMAGE_PIXELS == pixels.MOST_PIXELS

"""Image folders, Parquet files, archives and prepared data, changed in any way: Mistake or images."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.conftest import Fuzz
from tests.fuzz.limits import limited
from tests.fuzz.mutation import byte_edits, edited, json_edits
from tests.images import folder_request, noise
from trainables.data.cache import prepare
from trainables.data.image_file import DamagedError, open_classes, verify
from trainables.data.image_sets import load_images
from trainables.data.prepared import Prepared
from trainables.data.readers.pixels import FORMATS
from trainables.data.readers.request import DataRequest
from trainables.data.readers.source import SPLITS
from trainables.mistake import Mistake

SIDE = 8


def encoded(kind: str, mode: str = "RGB") -> bytes:
    image = Image.fromarray(noise(len(kind), 24)).convert(mode)
    sink = io.BytesIO()
    more = {"save_all": True, "append_images": [image.rotate(90)]} if kind in ("GIF", "TIFF", "WEBP") else {}
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        more["exif"] = exif
    image.save(sink, kind, **more)  # type: ignore[arg-type]
    return sink.getvalue()


IMAGES = [
    *(encoded(kind) for kind in FORMATS if kind not in ("DIB", "AVIF")),
    *(encoded("PNG", mode) for mode in ("L", "P", "RGBA", "LA", "1", "I;16")),
    *(encoded("JPEG", mode) for mode in ("L", "CMYK")),
    *(encoded("TIFF", mode) for mode in ("F", "I", "CMYK", "1")),
    *(encoded("GIF", mode) for mode in ("L", "P")),
]
"""An image of each kind."""


@contextmanager
def place() -> Iterator[Path]:
    """Give a folder, which is gone afterwards; a context, since Hypothesis calls a test many times."""
    folder = tempfile.mkdtemp(prefix="fuzz-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def sentences() -> Iterator[None]:
    """Let nothing pass but a Mistake on one line."""
    try:
        yield
    except Mistake as mistake:
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in str(mistake)):
            raise AssertionError(repr(str(mistake))) from mistake


def read(request: DataRequest) -> None:
    """Prepare the data and look at every image, or be told in a sentence why not."""
    with sentences():
        prepared = prepare(request)
        for split in SPLITS:
            assert sum(int(chunk.sum()) for chunk in prepared.open(split).chunks) >= 0


def load(path: Path) -> None:
    """Load an image set, or be told in a sentence why not."""
    with sentences():
        load_images("set", str(path), side=SIDE, channels=3, resize="bilinear")


NAME = (
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.text(min_size=1, max_size=40).map(lambda text: text.encode(errors="surrogatepass")),
        st.sampled_from(
            [b"train", b"test", b"val", b"none", b"x.png", b".hidden", b"__MACOSX", b"train.parquet"]
        ),
    )
    .map(lambda name: name.replace(b"/", b"").replace(b"\0", b"") or b"x")
    .filter(lambda n: n not in (b".", b".."))
)
KINDS = ["image", "folder", "pipe", "link to itself", "link up", "link away", "empty", "text", "device"]


def make(path: bytes, kind: str, data: bytes) -> None:
    """Put something at a path that has nothing."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
        make(path + b"/a.png", "image", data)
    elif kind.startswith(("link", "device")):
        targets = {"link to itself": path, "link up": b"..", "link away": b"away", "device": b"/dev/zero"}
        os.symlink(targets[kind], path)
    else:
        content = {"image": data, "empty": b"", "text": b"no image"}[kind]
        with open(path, "wb") as file:
            file.write(content)


FOLDER = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.tuples(st.sampled_from(IMAGES), st.just([]) | byte_edits()), min_size=6, max_size=6
        ),
        "odd": st.lists(st.tuples(st.integers(0, 6), NAME, st.sampled_from(KINDS)), max_size=3),
        "flat": st.booleans(),
        "skip": st.booleans(),
        "channels": st.sampled_from([1, 3]),
    }
)


def test_image_folders(fuzz: Fuzz) -> None:
    def check(example: dict[str, Any]) -> None:
        with place() as root:
            data = root / "data"
            roots = [data] if example["flat"] else [data / "train", data / "test"]
            folders = [folder / name for folder in roots for name in ("ant", "bee")]
            for folder in folders:
                folder.mkdir(parents=True)
            for number, (image, edits) in enumerate(example["images"]):
                for folder in folders[number % 2 :: 2]:
                    (folder / f"{number}.png").write_bytes(edited(image, edits))
            for number, name, kind in example["odd"]:
                parent = [*folders, data, *roots][number % (len(folders) + 1 + len(roots))]
                path = os.path.join(os.fsencode(parent), name + (b".png" if kind == "pipe" else b""))
                if not os.path.lexists(path):
                    make(path, kind, IMAGES[0])
            with limited():
                request = folder_request(
                    data, root / "cache", SIDE, channels=example["channels"], skip_bad_images=example["skip"]
                )
                read(request)
                load(data)

    fuzz(check, FOLDER)


def parquet_files() -> list[bytes]:
    """Return Parquet files with the columns and types in which data sets are published."""
    images = IMAGES[:8] * 2
    structs = [{"bytes": image, "path": None} for image in images]
    names, numbers = list("ab") * 8, [0, 1] * 8
    hub = {"huggingface": '{"info": {"features": {"label": {"names": ["ant", "bee"]}}}}'}
    listed = {"class_names": '["ant", "bee"]'}
    tables = [
        (pa.table({"image": images, "label": names}), {}),
        (
            pa.table({"image": structs, "label": numbers}).replace_schema_metadata(hub),
            {"compression": "zstd"},
        ),
        (
            pa.table({"img": images, "fine_label": numbers}).replace_schema_metadata(listed),
            {"compression": "none"},
        ),
        (pa.table({"image": pa.array(images, pa.large_binary()), "label": names}), {"row_group_size": 5}),
        (
            pa.table({"image": images, "label": pa.array(names).dictionary_encode()}),
            {"data_page_version": "2.0"},
        ),
        (pa.table({"image": [None, *images[1:]], "label": [0.5, *[1.0] * 15]}), {"use_dictionary": False}),
    ]
    found = []
    for table, how in tables:
        sink = io.BytesIO()
        pq.write_table(table, sink, **how)
        found.append(sink.getvalue())
    return found


def test_parquet(fuzz: Fuzz) -> None:
    files = parquet_files()

    def check(example: tuple[bytes, list]) -> None:
        data, edits = example
        with place() as root:
            (root / "mine.parquet").write_bytes(edited(data, edits))
            with limited():
                read(folder_request(root / "mine.parquet", root / "cache", SIDE))
                load(root / "mine.parquet")

    fuzz(check, st.tuples(st.sampled_from(files), byte_edits() | footer_edits()))


def footer_edits() -> st.SearchStrategy[list]:
    """Return changes near a file's end, where Parquet and Arrow say what they hold."""
    return byte_edits().map(
        lambda edits: [lambda data: data[: -len(data) // 3] + edited(data[-len(data) // 3 :], edits)]
    )


FORMS = [
    *(("w", tarfile.GNU_FORMAT), ("w", tarfile.PAX_FORMAT)),
    *(("w:gz", tarfile.PAX_FORMAT), ("w:xz", tarfile.USTAR_FORMAT), ("w:bz2", tarfile.GNU_FORMAT)),
]


def archives() -> list[bytes]:
    """Return an archive of each form, with long names where it can have them."""
    found = []
    for mode, form in FORMS:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode=mode, format=form) as tar:  # type: ignore[call-overload]
            for number, data in enumerate(IMAGES[:3]):
                long = "deep/" * 30 if form != tarfile.USTAR_FORMAT else ""
                member = tarfile.TarInfo(f"{long}é{number}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        found.append(sink.getvalue())
    return found


def test_archives(fuzz: Fuzz) -> None:
    files = archives()

    def check(example: tuple[bytes, list]) -> None:
        data, edits = example
        with place() as root:
            (root / "set.tar").write_bytes(edited(data, edits))
            with limited():
                load(root / "set.tar")

    fuzz(check, st.tuples(st.sampled_from(files), byte_edits()))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """A data set and its prepared form."""
    root = tmp_path_factory.mktemp("prepared")
    for split in SPLITS:
        for name in ("ant", "bee", "cow"):
            (root / "data" / split / name).mkdir(parents=True)
            for number in range(3):
                (root / "data" / split / name / f"{number}.png").write_bytes(IMAGES[number])
    return root, prepare(folder_request(root / "data", root / "cache", SIDE))


def test_prepared_data_is_made_again(fuzz: Fuzz, prepared: tuple[Path, Prepared]) -> None:
    """Whatever happened to it, it is used or made again; with `verify` it is what it was."""
    origin, first = prepared
    files = ["train.arrow", "test.arrow", "manifest.json"]

    def check(example: tuple[str, list, bool]) -> None:
        name, edits, given = example
        with place() as root:
            shutil.copytree(origin / "cache", root / "cache")
            path = root / "cache" / first.folder.name / name
            path.write_bytes(edited(path.read_bytes(), edits))
            request = folder_request(origin / "data", root / "cache", SIDE)
            with limited():
                read(request)
                found = prepare(request, first.fingerprint if given else None, verify=True)
                assert found == replace(first, folder=found.folder)
                assert found.test_files in (None, first.test_files)  # None if it says as little as one of 0.1
                for split in SPLITS:
                    for one, other in zip(found.open(split).chunks, first.open(split).chunks, strict=True):
                        assert np.array_equal(one, other)

    fuzz(check, st.tuples(st.sampled_from(files), byte_edits() | json_edits(), st.booleans()))


def test_arrow_files(fuzz: Fuzz, prepared: tuple[Path, Prepared]) -> None:
    """A file of any content gives the classes that were written, or says that it is damaged."""
    data = (prepared[1].folder / "train.arrow").read_bytes()

    def check(edits: list) -> None:
        with place() as root:
            path = root / "train.arrow"
            path.write_bytes(edited(data, edits))
            with limited():
                try:
                    opened = open_classes(str(path), "train", ["ant", "bee", "cow"])
                    for each in opened:
                        assert int(each.pixels.sum()) >= 0
                    verify(opened)
                except DamagedError:
                    pass

    fuzz(check, byte_edits() | footer_edits())

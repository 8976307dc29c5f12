"""Image sets from folders, archives and Parquet, and how their images are brought to a size."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.images import noise
from trainables.data.image_sets import ImageSet, load_images
from trainables.mistake import Mistake


def encoded(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "png")
    return sink.getvalue()


def write_images(folder: Path, count: int, side: int) -> list[np.ndarray]:
    """Write PNG files into a nested folder, as in the ODIN repository's archives."""
    inner = folder / "Imagenet_resize" / "Imagenet_resize"
    inner.mkdir(parents=True)
    found = [noise(seed, side) for seed in range(count)]
    for place, pixels in enumerate(found):
        (inner / f"{place:03d}.png").write_bytes(encoded(pixels))
    (inner / "list.txt").write_text("no image")
    (inner / "._000.png").write_bytes(b"what another system leaves in archives")
    return found


def load(path: Path, side: int = 8, channels: int = 3, **changes: object) -> ImageSet:
    return load_images("mine", str(path), side=side, channels=channels, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["folder", "archive", "bytes", "struct"])
def test_folder_archive_and_parquet_hold_the_same_images(tmp_path: Path, form: str) -> None:
    pixels = write_images(tmp_path / "set", 3, 8)
    path = tmp_path / "set"
    if form == "archive":
        path = tmp_path / "set.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for file in sorted((tmp_path / "set").rglob("*.*"), reverse=True):
                archive.add(file, file.relative_to(tmp_path))
    elif form != "folder":
        path = tmp_path / "set.parquet"
        column = [encoded(image) for image in pixels]
        images = pa.array(column) if form == "bytes" else pa.array([{"bytes": b, "path": ""} for b in column])
        pq.write_table(pa.table({"image": images, "label": [-1] * 3}), path)
    found = load(path)
    assert np.array_equal(found.pixels, np.stack(pixels))
    assert found.resize == "none"


def test_nearest_takes_the_middle_pixel_and_box_the_mean(tmp_path: Path) -> None:
    (pixels,) = write_images(tmp_path, 1, 24)
    nearest, box = (load(tmp_path, resize=how) for how in ("nearest", "box"))
    assert np.array_equal(nearest.pixels[0], pixels[1::3, 1::3])
    means = pixels.reshape(8, 3, 8, 3, 3).mean((1, 3))
    assert np.abs(box.pixels[0] - means).max() <= 1.01  # Pillow rounds after each direction
    assert (nearest.resize, box.resize) == ("nearest", "box")


def test_bilinear_takes_in_the_whole_footprint(tmp_path: Path) -> None:
    (pixels,) = write_images(tmp_path, 1, 16)
    weights = np.array([1, 3, 3, 1]) / 8  # a triangle of half width 2 at the centres of four pixels
    inner = sum(weights[i] * pixels[1 + i : 13 + i : 2].astype(float) for i in range(4))
    inner = sum(weights[i] * inner[:, 1 + i : 13 + i : 2] for i in range(4))
    assert np.abs(load(tmp_path, resize="bilinear").pixels[0, 1:7, 1:7] - inner).max() <= 1.01


def test_long_images_keep_their_shape_and_lose_their_ends(tmp_path: Path) -> None:
    image = np.zeros((8, 20, 3), np.uint8)
    image[:] = np.arange(20)[None, :, None]
    (tmp_path / "a.png").write_bytes(encoded(image))
    assert np.array_equal(load(tmp_path, resize="nearest").pixels[0], image[:, 6:14])


def test_crops_are_windows_at_uniform_places_by_seed(tmp_path: Path) -> None:
    image = np.arange(12 * 10, dtype=np.uint8).reshape(10, 12)
    (tmp_path / "a.png").write_bytes(encoded(image))
    found = load(tmp_path, channels=1, resize="crop", crops_per_image=3000, seed=4)
    corners = found.pixels[:, 0, 0, 0].astype(int)
    tops, lefts = corners // 12, corners % 12
    for crop, top, left in zip(found.pixels[:50], tops, lefts, strict=False):
        assert np.array_equal(crop[..., 0], image[top : top + 8, left : left + 8])
    counts = np.bincount(5 * tops + lefts, minlength=15)
    chi_square = ((counts - 200) ** 2 / 200).sum()
    assert len(counts) == 15
    assert chi_square < 36.1  # 14 degrees of freedom, p = 0.001
    assert load(tmp_path, channels=1, resize="crop", crops_per_image=3000, seed=4).digest == found.digest
    assert load(tmp_path, channels=1, resize="crop", crops_per_image=3000, seed=5).digest != found.digest


def test_crops_of_an_image_do_not_depend_on_later_ones(tmp_path: Path) -> None:
    for place in range(2):
        (tmp_path / f"{place}.png").write_bytes(encoded(noise(place, 16 + place)))
    both = load(tmp_path, resize="crop", crops_per_image=2)
    (tmp_path / "1.png").unlink()
    assert np.array_equal(load(tmp_path, resize="crop", crops_per_image=2).pixels, both.pixels[:2])


def test_images_of_the_right_size_are_not_resized(tmp_path: Path) -> None:
    write_images(tmp_path, 2, 8)
    for how in ("nearest", "bilinear", "crop"):
        assert load(tmp_path, resize=how).resize == "none"


def test_grey_benchmarks_get_grey_images(tmp_path: Path) -> None:
    (pixels,) = write_images(tmp_path, 1, 8)
    grey = load(tmp_path, channels=1).pixels
    assert grey.shape == (1, 8, 8, 1)
    assert np.abs(grey[0, ..., 0] - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 1


def broken(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no image")


def wrong_size(folder: Path) -> None:
    (folder / "a.png").write_bytes(encoded(noise(1, 16)))


def small(folder: Path) -> None:
    (folder / "a.png").write_bytes(encoded(noise(1, 4)))


@pytest.mark.parametrize(
    ("make", "changes", "said"),
    [
        (broken, {}, "a.png is not an image that can be read"),
        (wrong_size, {}, "is 16x16 where 8x8 is needed: say how with --ood-resize"),
        (small, {"resize": "crop"}, "is 4x4, too small for crops of 8x8"),
        (lambda folder: None, {}, "holds no image"),
    ],
)
def test_mistakes_are_explained_in_a_sentence(tmp_path: Path, make, changes: dict, said: str) -> None:
    make(tmp_path)
    with pytest.raises(Mistake, match=re.escape(said)):
        load(tmp_path, **changes)


def test_several_crops_of_an_image_of_the_crop_s_size_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, 1, 8)
    with pytest.raises(Mistake, match="8x8 already"):
        load(tmp_path, resize="crop", crops_per_image=2)


def test_files_that_are_not_image_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="does not exist"):
        load(tmp_path / "away")
    for name, said in (("a.bin", "is not a set of images"), ("a.parquet", "is not a Parquet file")):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(Mistake, match=said):
            load(tmp_path / name)
    pq.write_table(pa.table({"label": [1]}), tmp_path / "b.parquet")
    with pytest.raises(Mistake, match="no image column"):
        load(tmp_path / "b.parquet")
    (tmp_path / "a.png").write_bytes(encoded(noise(1, 64)))
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:5000])
    with pytest.raises(Mistake, match="is not an archive that can be read"):
        load(tmp_path / "cut.tar")

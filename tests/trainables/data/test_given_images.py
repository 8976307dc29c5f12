"""Images that a person names, files or folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainables.data.given_images as module
from tests.images import noise, write_folder
from trainables.data.given_images import image_paths, read_in_chunks
from trainables.data.readers.decoding import Form
from trainables.data.readers.pixels import square_pixels
from trainables.mistake import Mistake


def test_files_and_folders_are_listed_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    written = sorted(write_folder(tmp_path, {"in": {"b": 2, "a": 1}}))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "photo").write_bytes(Path(written[0]).read_bytes())
    named = [str(tmp_path / "photo"), str(tmp_path / "in"), written[1]]
    assert image_paths(named) == [str(tmp_path / "photo"), *written]


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "nowhere does not exist"), ("empty", "empty holds no image")]
)
def test_names_that_lead_to_no_image_are_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Mistake, match=said):
        image_paths([str(tmp_path / name)])


def test_images_come_in_chunks_in_the_form_of_a_data_set_and_bad_ones_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Form(side=8, channels=1, oriented=True)
    monkeypatch.setattr(module, "CHUNK", 3 * 8 * 8)
    paths = []
    for number in range(7):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(noise(number, 12 + number)).save(paths[-1])
    Path(paths[4]).write_bytes(b"")
    Path(paths[6]).unlink()
    chunks = list(read_in_chunks(paths, form))
    assert [len(chunk.paths) for chunk in chunks] == [3, 2, 0]
    assert chunks[1].unreadable == {paths[4]: "it is empty"}
    assert chunks[2].unreadable == {paths[6]: "No such file or directory"}
    for chunk in chunks:
        for path, pixels in zip(chunk.paths, chunk.pixels, strict=True):
            assert np.array_equal(pixels, square_pixels(path, 8, 1, oriented=True))

"""Pictures of the most and least anomalous images: which they are, and their pixels."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from orchestrator.ledger.ledger import Ledger
from orchestrator.reporting.pictures import Galleries, galleries
from orchestrator.reporting.results import collect
from orchestrator.reporting.scored import read_scored
from tests.hand_made_ledger import finish, scores_of, specification, write_sweep
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest


def shown(ledger: Ledger, cache: Path) -> Galleries:
    results = collect(ledger)
    found = galleries(results, read_scored(results), "classification", str(cache))
    assert found is not None
    return found


def test_images_are_ranked_by_score_with_what_they_are_taken_for(tmp_path: Path) -> None:
    wanted = specification(methods=("classification",), seeds=1)
    ledger, cells = write_sweep(tmp_path, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, scores=scores_of(cell))
    found = shown(ledger, tmp_path / "nothing")
    assert "not on this machine" in found.about
    titles = ["3: most anomalous", "3: least anomalous", "8: most anomalous", "8: least anomalous"]
    assert [each.title for each in found.shown] == [
        *titles,
        "Most confidently missed, of all held-out classes",
    ]
    most, least, *_, missed = (gallery.pictures for gallery in found.shown)
    assert most[0].score > most[-1].score > least[-1].score > least[0].score
    assert missed[0].score == min(picture.score for gallery in found.shown for picture in gallery.pictures)
    assert most[0].words.startswith("test image ")
    assert most[0].answer == "taken for 4 (87%)"
    assert {picture.source for gallery in found.shown for picture in gallery.pictures} == {""}
    assert galleries(collect(ledger), {}, "classification", "") is None


def test_pixels_are_those_of_the_prepared_image(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    request = DataRequest(reader="digits", path="", side=8, channels=1, cache=str(cache), name="digits")
    prepared = prepare(request)
    wanted = specification(methods=("classification",), seeds=1, holdouts=("3",))
    ledger, _ = write_sweep(tmp_path, wanted)
    ledger.write_sweep({**ledger.read_sweep(), "fingerprint": prepared.fingerprint})
    images = prepared.open("test", ("3",))
    (cell,) = collect(ledger).cells.all()
    scores = scores_of(cell)
    # The first ten images of the class stand in for the hand-made ones.
    index = np.array(scores["index"].to_pylist())
    index[np.array(scores["is_anomaly"])] = images.indices[:10].numpy()
    finish(ledger, wanted, cell, scores=scores.set_column(0, "index", [index]))
    picture = shown(ledger, cache).shown[0].pictures[0]
    head, _, data = picture.source.partition(",")
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    place = list(images.indices).index(int(picture.name.removeprefix("test image ")))
    assert np.array_equal(pixels, images.gather(images.indices.new_tensor([place]))[0, ..., 0])

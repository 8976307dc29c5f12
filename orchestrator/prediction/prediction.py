"""Predictions for new images: scores, the threshold above which they are flagged, and what is known of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from orchestrator.cli.next_commands import score_command
from orchestrator.cli.predict_options import PredictRequest
from orchestrator.execution.later_scores import LaterScoring, show_progress
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cell
from orchestrator.planning.request import DEFAULT_DATA, check_detectors
from orchestrator.planning.specification import StoredSweep, data_request
from orchestrator.prediction.checks import Caught, caught
from orchestrator.prediction.choice import choose_cell
from orchestrator.prediction.contact_sheet import Entry
from trainables.data.given_images import image_paths, read_in_chunks
from trainables.data.readers.decoding import Form
from trainables.data.readers.finding import applies_orientation
from trainables.detectors import DETECTORS
from trainables.detectors.contract import LOGITS
from trainables.failures import DetectorFailed
from trainables.kept_weights import UnusableWeights
from trainables.mistake import Mistake, counted
from trainables.prediction import Predictor
from trainables.rescoring import NotReproduced
from trainables.run import NO_HOLDOUT
from trainables.threshold import Threshold, find_threshold

COLUMNS = ("file", "predicted", "score", "flagged")


@dataclass(frozen=True)
class Prediction:
    """What was found of the images, in the order in which they were named."""

    entries: tuple[Entry, ...]
    unreadable: dict[str, str]
    """Files that could not be read, and why."""
    about: tuple[str, ...]
    """Sentences on the network, the threshold, and what is known of it."""
    oriented: bool
    """Whether the orientation that a camera noted in a file was applied."""

    def as_csv(self) -> str:
        """Return a row per image: file, predicted, score, flagged."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(COLUMNS)
        for entry in self.entries:
            file = entry.file.encode(errors="backslashreplace").decode()  # what is no text in a name
            writer.writerow([file, entry.predicted, entry.score, str(entry.flagged).lower()])
        return sink.getvalue()


def predict(request: PredictRequest, ledger: Ledger, stored: StoredSweep, leave: str = "") -> Prediction:
    """Return what the network that the request names says of its images, but for the file `leave`.

    Raise Mistake for what is not there or cannot be used.
    """
    check_detectors((request.detector,))
    paths = [path for path in image_paths(request.images) if path != leave]
    scoring = LaterScoring(request.places, ledger, stored)
    cell = choose_cell(request, ledger, stored, scoring)
    torch.set_num_threads(stored.specification.threads)
    try:
        return _predict(request, ledger, stored, scoring, cell, paths)
    except (DetectorFailed, UnusableWeights, NotReproduced) as error:
        raise Mistake(
            f"{cell.label} cannot look at new images with {request.detector} ({error}): choose another "
            "--detector, --seed or --method."
        ) from error


def _predict(
    request: PredictRequest,
    ledger: Ledger,
    stored: StoredSweep,
    scoring: LaterScoring,
    cell: Cell,
    paths: Sequence[str],
) -> Prediction:
    trained, last = scoring.trained(cell), scoring.last(cell)
    predictor = Predictor(request.detector, scoring.training_run(cell), trained, last, scoring.device)
    on_logits = DETECTORS.find(request.detector).needs == LOGITS
    test = predictor.score_test(None if on_logits else scoring.prepared)
    threshold = find_threshold(test[~last.is_anomaly], request.rate)
    form = _form(request, stored)
    entries: list[Entry] = []
    unreadable: dict[str, str] = {}
    for chunk in read_in_chunks(paths, form):
        unreadable |= chunk.unreadable
        if chunk.paths:
            found = predictor.score(chunk.pixels)
            flags = threshold.flags(found.scores)
            rows = zip(chunk.paths, found.classes, found.scores, flags, strict=True)
            entries += [Entry(p, trained.classes[c], float(s), bool(f)) for p, c, s, f in rows]
        show_progress(f"{len(entries)}/{len(paths)} images")
    show_progress("")
    if not entries:
        first, reason = next(iter(unreadable.items()))
        raise Mistake(f"None of the images can be read, such as {first} ({reason}): name others.")
    about = [
        f"Network: {cell.label} of the sweep {ledger.name}, which knows {len(trained.classes)} classes; "
        f"detector: {request.detector}.",
        _about_threshold(threshold),
        *_about_unknown(request, ledger, scoring, cell, test[last.is_anomaly], threshold),
    ]
    return Prediction(tuple(entries), unreadable, tuple(about), form.oriented)


def _form(request: PredictRequest, stored: StoredSweep) -> Form:
    """Return the form that the sweep's own images were brought to."""
    path = request.places.data or stored.data or DEFAULT_DATA
    data = data_request(stored.specification, path, cache=request.places.cache, download=False)
    return Form(data.side, data.channels, applies_orientation(data))


def _about_threshold(threshold: Threshold) -> str:
    return (
        f"Threshold: images that score above {threshold.value:.9g} are flagged, which is a share of at most "
        f"{float(threshold.rate):.4g} on average of new images of these classes, if they are like the "
        f"sweep's test images. It is number {threshold.rank}, from the smallest on, of the scores of the "
        f"{threshold.count} test images of these classes, on which the network was not trained."
    )


def _about_unknown(
    request: PredictRequest,
    ledger: Ledger,
    scoring: LaterScoring,
    cell: Cell,
    anomalies: np.ndarray,
    threshold: Threshold,
) -> Iterator[str]:
    """Yield what is known of how many images of unknown classes are flagged."""
    if cell.holdout != NO_HOLDOUT:
        flagged = int(threshold.flags(anomalies).sum())
        yield (
            f"Unknown classes: of the {len(anomalies)} test images of the class {cell.holdout!r}, which this "
            f"network never saw, it flags {flagged} ({flagged / len(anomalies):.1%})."
        )
        return
    yield (
        "Unknown classes: this network was trained on every class, so its threshold was never checked on "
        "images of a class that it does not know."
    )
    others = [c for c in scoring.finished if c.method == cell.method and c.holdout != NO_HOLDOUT]
    found, without = caught(others, request.detector, request.rate, ledger, scoring)
    if found:
        yield _about_caught(found, cell.method)
    if without:
        command = score_command(request.places, ledger.name, [request.detector])
        yield (
            f"There are no scores by {request.detector} yet of {counted(len(without), 'network')} with a "
            f"class held out: {command}"
        )


def _about_caught(found: Sequence[Caught], method: str) -> str:
    flagged, images = sum(each.flagged for each in found), sum(each.images for each in found)
    lowest, highest = min(found, key=lambda c: c.share), max(found, key=lambda c: c.share)
    ends = f"{lowest.share:.1%} of {lowest.holdout!r}"
    if highest is not lowest:
        ends = f"from {ends} to {highest.share:.1%} of {highest.holdout!r}"
    return (
        f"At the same rate, {counted(sum(c.networks for c in found), 'network')} of {method} in this sweep "
        f"with a class held out flagged {flagged / images:.1%} of that class's test images ({ends})."
    )

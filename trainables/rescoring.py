"""Detectors that score a final run after its end, from what was kept of it, without training.

Detectors on logits need the logits of its evaluations. All others run on the trained network and open what
the run itself opened: the test images and, for detectors that learn, the kept classes' training images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from trainables.data.access_log import AccessLog
from trainables.data.holdout import Part, open_final, open_test
from trainables.data.image_table import ImageTable
from trainables.data.normalisation import Normalisation
from trainables.data.prepared import Prepared
from trainables.detectors import DETECTORS
from trainables.detectors.contract import FEATURES
from trainables.failures import DetectorFailed
from trainables.kept_weights import Trained
from trainables.metrics import average_precision, metrics_beside
from trainables.recipe import Recipe
from trainables.run import Run
from trainables.scoring import Scorer, Scores, made, scores_of_logits
from trainables.workers import Workers

TOLERANCE = 1e-3
"""How far logits computed again may be from those of the run, as a share of the largest.

They are equal on the same kind of processor. On others float32 rounds differently, by about 1e-5 of the
largest in deep networks; other weights or other images change logits by far more than this.
"""


class NotReproduced(RuntimeError):
    """The network does not give the logits that the run recorded; the message says by how much."""


@dataclass(frozen=True)
class LaterScores:
    """A detector's scores of the test images, float64 (n,), and the metrics that follow from them.

    `by_epoch` is its AP by epoch, of those evaluations that it could score. Without a held-out class there
    are no metrics.
    """

    scores: np.ndarray
    windowed: bool
    """Whether it scored every evaluation of the AP window."""
    by_epoch: dict[int, float]
    metrics: dict[str, float]


@dataclass(frozen=True)
class NetworkScores:
    """What detectors on a network gave, scores or the reason for none, and the images that were opened."""

    by_detector: dict[str, LaterScores | DetectorFailed]
    opened: list[dict[str, object]]


def score_logits(
    name: str,
    recipe: Recipe,
    normalisation: Normalisation | None,
    last: Scores,
    earlier: Mapping[int, np.ndarray],
) -> LaterScores:
    """Score the logits of the last evaluation and of earlier ones, float32 (n, K) by epoch.

    Raise DetectorFailed if the detector fails.
    """
    detector = made(name, recipe, normalisation)
    window = range(max(1, recipe.epochs - recipe.ap_window + 1), recipe.epochs)
    found = {
        epoch: scores_of_logits(detector, torch.from_numpy(earlier[epoch]))
        for epoch in window
        if epoch in earlier
    }
    found[recipe.epochs] = scores_of_logits(detector, torch.from_numpy(last.logits))
    return _with_metrics(name, recipe.epochs, last, found, windowed=len(found) == len(window) + 1)


def score_network(
    names: Sequence[str], run: Run, trained: Trained, prepared: Prepared, last: Scores, device: torch.device
) -> NetworkScores:
    """Score the test images by detectors on features and on the network.

    Raise NotReproduced if the network's logits are not those of the run's last evaluation.
    """
    log = AccessLog()
    prepared = prepared.with_access_log(log)
    training = open_training(names, run, prepared, device)
    test = open_test(prepared, run).to(device)
    opened = log.close()
    network = trained.network.to(device).to(memory_format=torch.channels_last)
    normalisation = trained.normalisation.to(device)

    def score(together: Sequence[str]) -> dict[str, LaterScores | DetectorFailed]:
        """Score by detectors that share their passes or, if one of them fails, each by itself."""
        try:
            found = Scorer(together, run.recipe, normalisation, Workers()).score(network, test, training)
        except DetectorFailed as failure:
            if len(together) == 1:
                return {together[0]: failure}
            return {name: each for alone in together for name, each in score([alone]).items()}
        check_reproduced(found, last)
        epochs = run.recipe.epochs
        return {
            name: _with_metrics(name, epochs, last, {epochs: scores}, windowed=False)
            for name, scores in found.by_detector.items()
        }

    return NetworkScores(score(names), opened)


@dataclass(frozen=True)
class SetScores:
    """The scores of image sets by name, their metrics beside the test images, and the images opened."""

    by_set: dict[str, Scores]
    metrics: dict[str, float]
    """As a run that scored the sets itself has them."""
    opened: list[dict[str, object]]


def score_image_sets(
    names: Sequence[str],
    run: Run,
    trained: Trained,
    prepared: Prepared,
    last: Scores,
    sets: Sequence[ImageTable],
    device: torch.device,
) -> SetScores:
    """Score image sets as anomalies by detectors, beside the test images of the kept classes.

    Raise DetectorFailed if a detector fails, and NotReproduced as `score_network` does.
    """
    log = AccessLog()
    prepared = prepared.with_access_log(log)
    part = open_training(names, run, prepared, device)
    test = open_test(prepared, run).to(device)
    for table in sets:
        log.add(table)
    network = trained.network.to(device).to(memory_format=torch.channels_last)
    scorer = Scorer(names, run.recipe, trained.normalisation.to(device), Workers())
    found = scorer.score(network, test, part)
    check_reproduced(found, last)
    normal = {name: scores[~found.is_anomaly] for name, scores in found.by_detector.items()}
    by_set = {table.classes[0]: scorer.score_beside(network, table.to(device)) for table in sets}
    metrics: dict[str, float] = {}
    for name, scores in by_set.items():
        metrics |= metrics_beside(name, normal, scores.by_detector)
    return SetScores(by_set, metrics, log.close())


def open_training(names: Sequence[str], run: Run, prepared: Prepared, device: torch.device) -> Part | None:
    """Open the training images, if one of the detectors learns from them."""
    if not any(DETECTORS.find(name).needs == FEATURES for name in names):
        return None
    part = open_final(prepared, run).training
    return Part(part.images.to(device), part.rows, part.labels)


def _with_metrics(
    name: str, epochs: int, last: Scores, by_epoch: Mapping[int, np.ndarray], *, windowed: bool
) -> LaterScores:
    """Return a detector's scores with its metrics, given its scores by epoch up to the last."""
    scores = by_epoch[epochs]
    if not last.is_anomaly.any():
        return LaterScores(scores, windowed, {}, {})
    aps = {epoch: average_precision(each, last.is_anomaly) for epoch, each in by_epoch.items()}
    metrics = {f"final/ap_{name}_last": aps[epochs]}
    if windowed:
        metrics[f"final/ap_{name}"] = math.fsum(aps.values()) / len(aps)
    thresholds = replace(last, by_detector={name: scores}).threshold_metrics()
    metrics |= {f"final/{metric}": value for metric, value in thresholds.items()}
    return LaterScores(scores, windowed, aps, metrics)


def check_reproduced(found: Scores, last: Scores) -> None:
    """Raise NotReproduced unless images and, but for rounding, logits are those of the last evaluation."""
    if not np.array_equal(found.index, last.index) or found.logits.shape != last.logits.shape:
        raise NotReproduced("the test images are not those that were scored")
    largest, off = np.abs(last.logits).max(), np.abs(found.logits - last.logits).max()
    if not off <= TOLERANCE * largest:
        raise NotReproduced(
            f"its logits differ by up to {off:.2g} from those in the ledger, whose largest is {largest:.2g}, "
            f"and rounding explains {TOLERANCE * largest:.2g}"
        )

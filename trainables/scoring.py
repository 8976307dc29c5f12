"""Anomaly scores of test images, and average precision (AP).

Higher scores are more anomalous, and anomalies are the positives. Scoring runs in float32 without autocast
and TF32, which would round ODIN's step away. Softmax maxima are computed in float64, where neither confident
predictions (up to a logit gap of about 36) nor T = 1000 cause ties that the logits do not have.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.arithmetic import full_precision
from trainables.data.augment import center_crop
from trainables.data.holdout import ANOMALY, Part, TestData
from trainables.data.image_table import ImageTable
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe
from trainables.workers import Workers

TEMPERATURE = 1000.0
"""ODIN's temperature T."""
EPSILON = 5e-5
"""ODIN's step for pixels scaled to 0..1, the same for all experiments (paper, section 4)."""

LARGEST_BATCH, PIXELS_PER_BATCH = 256, 2**19
"""Limits on the images and the pixels of a batch: 256 images of up to 45x45, 56 of 96x96, 8 of 256x256.

ODIN keeps the activations that its gradient needs. For 256 images these would take 4.7 GB with CIFAR-10's
network in float32, and 25 GB with a WRN-36-4 at 224x224, four times as much as a training step.
"""


@dataclass(frozen=True)
class Scores:
    """The scores of n test images in the table's order: arrays (n,), and logits (n, K).

    `index` is the position in the test split's original order; `label` is ANOMALY for the held-out class.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    msp: np.ndarray
    odin: np.ndarray

    @property
    def is_anomaly(self) -> np.ndarray:
        """Whether each image is of the held-out class, bool (n,)."""
        anomalous: np.ndarray = self.label == ANOMALY
        return anomalous

    @property
    def finite(self) -> bool:
        """Whether all logits and scores are finite."""
        return bool(np.isfinite(self.logits).all() and np.isfinite(self.odin).all())

    def metrics(self) -> dict[str, float]:
        """Return loss and accuracy on the kept classes, and the AP of both scores if there are anomalies."""
        kept = ~self.is_anomaly
        logits = torch.from_numpy(self.logits[kept]).double()
        label = torch.from_numpy(self.label[kept])
        found = {
            "test/loss": F.cross_entropy(logits, label).item(),
            "test/accuracy": (logits.argmax(1) == label).double().mean().item(),
        }
        if self.is_anomaly.any():
            found["ap/msp"] = average_precision(self.msp, self.is_anomaly)
            found["ap/odin"] = average_precision(self.odin, self.is_anomaly)
        return found


def average_precision(scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    """Return the sum over thresholds of precision x gain in recall, without interpolation, ties grouped.

    Scores are (n,), `is_anomaly` is bool (n,). Raise ValueError if there is no anomaly or a score is NaN.
    """
    positives = int(np.count_nonzero(is_anomaly))
    if positives == 0 or np.isnan(scores).any():
        raise ValueError("average precision needs at least one anomaly and no score that is NaN")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], is_anomaly[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(hits)[last_of_tie]
    flagged = np.flatnonzero(last_of_tie) + 1
    return float(np.sum(found / flagged * np.diff(found, prepend=0)) / positives)


def msp(logits: Tensor) -> Tensor:
    """Return minus the maximum softmax probability of logits (n, K): float64 (n,)."""
    return -F.log_softmax(logits.double(), 1).max(1).values.exp()


def odin(network: WideResNet, inputs: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (n, K) of normalised inputs (n, C, H, W), and ODIN's scores, float64 (n,).

    The input is changed by -step * sign(gradient of the cross-entropy between softmax(logits / T) and the
    predicted class), with sign(0) = +1. The score is minus the maximum of softmax(logits / T) there. `step`
    is in normalised units and broadcast over the inputs.
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(inputs)
        loss = F.cross_entropy(logits / TEMPERATURE, logits.argmax(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    with torch.no_grad():
        stepped = torch.where(gradient >= 0, inputs - step, inputs + step)
        return logits.detach(), msp(network(stepped).double() / TEMPERATURE)


def odin_step(normalisation: Normalisation, recipe: Recipe) -> Tensor:
    """Return ODIN's step in normalised units, (1, C, 1, 1); "byte" divides by deviations of 0..255 pixels."""
    scale = 255.0 if recipe.odin_units == "byte" else 1.0
    return (EPSILON / (scale * normalisation.std)).view(1, -1, 1, 1)


def score(
    network: WideResNet,
    test: TestData,
    normalisation: Normalisation,
    recipe: Recipe,
    workers: Workers,
) -> Scores:
    """Score every test image by MSP and ODIN in one pass that the workers share."""
    images = test.images
    normalisation = normalisation.to(next(network.parameters()).device)
    step = odin_step(normalisation, recipe)
    logits, odin_scores = [], []
    with _evaluating(network, gradients=False):
        for batch in _batches(images, torch.arange(len(images))[workers.share(len(images))]):
            found, scored = odin(network, normalisation(center_crop(batch, recipe.image_size)), step)
            logits.append(found)
            odin_scores.append(scored)
    all_logits = workers.gather(torch.cat(logits)).float().cpu()
    return Scores(
        images.indices.numpy(),
        test.labels.numpy(),
        all_logits.numpy(),
        msp(all_logits).numpy(),
        workers.gather(torch.cat(odin_scores)).cpu().numpy(),
    )


def validate(
    network: WideResNet, part: Part, normalisation: Normalisation, recipe: Recipe, workers: Workers
) -> float:
    """Return the accuracy on centre crops of a part's images, or NaN if an output is not finite."""
    device = next(network.parameters()).device
    normalisation = normalisation.to(device)
    share = workers.share(len(part))
    rows, labels = part.rows[share], part.labels[share].to(device)
    correct, broken = torch.zeros(2, dtype=torch.int64, device=device)
    with _evaluating(network), torch.no_grad():
        start = 0
        for batch in _batches(part.images, rows):
            logits = network(normalisation(center_crop(batch, recipe.image_size)))
            correct += (logits.argmax(1) == labels[start : start + len(batch)]).sum()
            broken += (~logits.isfinite()).any()
            start += len(batch)
    right, wrong = workers.total(torch.stack([correct, broken])).tolist()
    return math.nan if wrong else right / len(part)


@contextlib.contextmanager
def _evaluating(network: WideResNet, *, gradients: bool = True) -> Iterator[None]:
    """Set evaluation mode and full precision and, without `gradients`, freeze the parameters."""
    was_training = network.training
    network.eval()
    network.requires_grad_(gradients)
    try:
        with full_precision(next(network.parameters()).device):
            yield
    finally:
        network.requires_grad_(True)
        network.train(was_training)


def _batch_size(images: ImageTable) -> int:
    """Return the images per batch, fewer if they are large, so that memory is about that of training."""
    return max(1, min(LARGEST_BATCH, PIXELS_PER_BATCH // images.side**2))


def _batches(images: ImageTable, rows: Tensor) -> Iterator[Tensor]:
    for chosen in rows.split(_batch_size(images)):
        yield images.gather(chosen)

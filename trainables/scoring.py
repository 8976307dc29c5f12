"""The scoring pass: what every detector says of the test images, and the validation of search runs.

Higher scores are more anomalous, and anomalies are the positives. Scoring runs in float32 without autocast
and TF32, which would round a detector's small steps away. Detectors on logits get them in float64, where
neither confident predictions (up to a logit gap of about 36) nor large temperatures cause ties that the
logits do not have.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.arithmetic import full_precision
from trainables.compiling import uncompiled
from trainables.data.augment import center_crop
from trainables.data.holdout import ANOMALY, Part, TestData
from trainables.data.image_table import ImageTable
from trainables.data.normalisation import Normalisation
from trainables.detectors import DETECTORS, Detector
from trainables.detectors.contract import FEATURES, LOGITS, NETWORK
from trainables.failures import DetectorFailed, blamed
from trainables.heartbeat import beat
from trainables.metrics import auroc, average_precision, fpr_at_95_tpr
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe
from trainables.workers import Workers

LARGEST_BATCH, PIXELS_PER_BATCH = 256, 2**19
"""Limits on the images and the pixels of a batch: 256 images of up to 45x45, 56 of 96x96, 8 of 256x256.

A detector's gradient for the input needs the activations. For 256 images these would take 4.7 GB with
CIFAR-10's network in float32, and 25 GB with that for 224x224 images, four times as much as a training step.
"""


@dataclass(frozen=True)
class Scores:
    """The logits of n test images in the table's order, float32 (n, K), and each detector's scores of them.

    `index`, int64 (n,), is the position in the test split's original order; `label`, int64 (n,), is ANOMALY
    for the held-out class. Scores are float64 (n,) by the detector's name, none if a logit is not finite.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    by_detector: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_anomaly(self) -> np.ndarray:
        """Whether each image is of the held-out class, bool (n,)."""
        anomalous: np.ndarray = self.label == ANOMALY
        return anomalous

    @property
    def finite(self) -> bool:
        """Whether all logits are finite."""
        return bool(np.isfinite(self.logits).all())

    def metrics(self) -> dict[str, float]:
        """Return loss and accuracy on the kept classes and, if there are anomalies, every detector's AP."""
        kept = ~self.is_anomaly
        logits = torch.from_numpy(self.logits[kept]).double()
        label = torch.from_numpy(self.label[kept])
        found = {
            "test/loss": F.cross_entropy(logits, label).item(),
            "test/accuracy": (logits.argmax(1) == label).double().mean().item(),
        }
        if self.is_anomaly.any():
            for name, scores in self.by_detector.items():
                found[f"ap/{name}"] = average_precision(scores, self.is_anomaly)
        return found

    def threshold_metrics(self) -> dict[str, float]:
        """Return every detector's AUROC and FPR at 95% TPR; there must be anomalies."""
        found = {}
        for name, scores in self.by_detector.items():
            found[f"auroc_{name}"] = auroc(scores, self.is_anomaly)
            found[f"fpr95_{name}"] = fpr_at_95_tpr(scores, self.is_anomaly)
        return found


class Scorer:
    """The detectors of one run, made anew for it, and the passes that they share."""

    def __init__(
        self, detectors: Sequence[str], recipe: Recipe, normalisation: Normalisation, workers: Workers
    ) -> None:
        """Make the detectors with these names; raise Mistake for one that does not exist."""
        self._recipe, self._normalisation, self._workers = recipe, normalisation, workers
        self._detectors = {name: made(name, recipe, normalisation) for name in detectors}

    def score(self, network: WideResNet, test: TestData, training: Part | None = None) -> Scores:
        """Score every test image in one pass that the workers share.

        Detectors on features take part if `training` is given, the training images to fit them to, which
        costs one more pass over these. Raise DetectorFailed, on all workers alike, if a detector fails.
        """
        fitted = self._of(FEATURES) if training is not None else {}
        with _evaluating(network, gradients=False):
            passed = self._pass(network, test.images, keep_features=bool(fitted))
            scores = Scores(test.images.indices.numpy(), test.labels.numpy(), passed.logits.numpy())
            if not scores.finite:
                return scores
            n = len(scores.index)
            found = {name: checked(name, each, n) for name, each in passed.scores(self._workers).items()}
            for name, detector in self._of(LOGITS).items():
                found[name] = scores_of_logits(detector, passed.logits)
            if training is not None and fitted:
                seen = (*self.embed(network, training.images, training.rows), training.labels)
                for name, detector in fitted.items():
                    beat(f"fitting {name}")
                    with _blamed(name):
                        detector.fit(*(values.clone() for values in seen))
                    found[name] = passed.scores_of_features(detector)
        return replace(scores, by_detector={name: found[name] for name in self._detectors if name in found})

    def score_beside(self, network: WideResNet, images: ImageTable) -> Scores:
        """Score other images as anomalies, after `score` has fitted the detectors on features."""
        on_features, on_logits = self._of(FEATURES), self._of(LOGITS)
        with _evaluating(network, gradients=False):
            passed = self._pass(network, images, keep_features=bool(on_features))
            n = len(images)
            scores = Scores(images.indices.numpy(), np.full(n, ANOMALY), passed.logits.numpy())
            if not scores.finite:
                return scores
            found = {name: checked(name, each, n) for name, each in passed.scores(self._workers).items()}
            found |= {name: scores_of_logits(each, passed.logits) for name, each in on_logits.items()}
            found |= {name: passed.scores_of_features(each) for name, each in on_features.items()}
        return replace(scores, by_detector={name: found[name] for name in self._detectors})

    def embed(self, network: WideResNet, images: ImageTable, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, D) and logits (n, K) of centre crops of these rows, float32 on the CPU."""
        share = rows[self._workers.share(len(rows))]
        features, logits = [], []
        with _evaluating(network, gradients=False), torch.no_grad():
            for batch in _batches(images, share):
                found = network.embed(self._inputs(batch))
                features.append(found)
                logits.append(network.classifier(found))
        gather = self._workers.gather
        return gather(torch.cat(features)).float().cpu(), gather(torch.cat(logits)).float().cpu()

    def needs_features(self, name: str) -> bool:
        """Return whether a detector takes part in the last evaluation only."""
        return self._detectors[name].needs == FEATURES

    def score_logits(self, name: str, logits: np.ndarray) -> np.ndarray | None:
        """Return a detector's scores, float64 (n,), of logits (n, K) alone; None if it needs more."""
        detector = self._detectors[name]
        return scores_of_logits(detector, torch.from_numpy(logits)) if detector.needs == LOGITS else None

    def _of(self, need: str) -> dict[str, Detector]:
        return {name: each for name, each in self._detectors.items() if each.needs == need}

    def _inputs(self, batch: Tensor) -> Tensor:
        return self._normalisation(center_crop(batch, self._recipe.image_size))

    def _pass(self, network: WideResNet, images: ImageTable, *, keep_features: bool) -> _Passed:
        """Run the network over this worker's share of the images, and its detectors batch by batch."""
        detectors = self._of(NETWORK)
        graph = any(each.gradients for each in detectors.values())
        features, logits = [], []
        running = {name: _Running(each) for name, each in detectors.items()}
        untouched = _Untouched(network, list(detectors))
        for batch in _batches(images, torch.arange(len(images))[self._workers.share(len(images))]):
            inputs = self._inputs(batch).detach().requires_grad_(graph)
            with torch.set_grad_enabled(graph):
                embedded = network.embed(inputs)
                found = network.classifier(embedded)
            logits.append(found.detach().clone())  # what detectors do to theirs is not recorded
            if keep_features:
                features.append(embedded.detach().clone())
            fresh = True
            for each in running.values():
                if each.detector.gradients and not fresh:  # the first one has used the graph up
                    with torch.enable_grad():
                        found = network(inputs)
                beat(f"scoring by {each.detector.name}")
                each.take(network, inputs, found)
                fresh = fresh and not each.detector.gradients
        untouched.check()
        gather = self._workers.gather
        return _Passed(
            gather(torch.cat(logits)).float().cpu(),
            gather(torch.cat(features)).float().cpu() if keep_features else None,
            running,
        )


class _Running:
    """A detector on the network in the middle of a pass: its scores so far, or the error that ended it."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.scores: list[Tensor] = []
        self.failure: str | None = None

    def take(self, network: WideResNet, inputs: Tensor, logits: Tensor) -> None:
        """Score a batch; an error is kept until the pass is over, since other workers are in it too."""
        if self.failure is not None:
            return
        try:
            gradients = self.detector.gradients
            with _blamed(self.detector.name), torch.set_grad_enabled(gradients):
                given = (inputs, logits) if gradients else (inputs.detach().clone(), logits.detach().clone())
                found = self.detector.score(network, *given)
                self.scores.append(_shaped(self.detector.name, found, len(inputs)).detach())
        except DetectorFailed as error:
            self.failure = str(error)
        network.eval()


class _Untouched:
    """The state of a network before a pass that plug-ins' detectors take part in: they must not change it."""

    def __init__(self, network: WideResNet, detectors: Sequence[str]) -> None:
        self._network = network
        self._brought = [name for name in detectors if name not in DETECTORS.built_in]
        state = network.state_dict() if self._brought else {}
        self._before = {name: value.clone() for name, value in state.items()}

    def check(self) -> None:
        """Raise DetectorFailed, and restore the network, if its weights or statistics have changed."""
        after = self._network.state_dict() if self._brought else {}
        if any(not torch.equal(value, after[name]) for name, value in self._before.items()):
            self._network.load_state_dict(self._before)
            raise DetectorFailed(
                f"the detector {' or '.join(self._brought)} changed the network that it scores with: weights "
                "and running statistics must stay as they are"
            )


@dataclass(frozen=True)
class _Passed:
    """What a pass over all images gave: logits (n, K), features (n, D) if they were kept, float32."""

    logits: Tensor
    features: Tensor | None
    running: dict[str, _Running]

    def scores_of_features(self, detector: Detector) -> np.ndarray:
        """Return the scores, float64 (n,), of a detector on features that was fitted."""
        assert self.features is not None
        beat(f"scoring by {detector.name}")
        with _blamed(detector.name):
            found = detector.score(self.features.clone(), self.logits.clone())
        return checked(detector.name, found, len(self.logits))

    def scores(self, workers: Workers) -> dict[str, Tensor]:
        """Return the scores (n,) of the detectors on the network, or raise any worker's DetectorFailed."""
        for each in self.running.values():
            failure = workers.any_of(each.failure)
            if failure is not None:
                raise DetectorFailed(failure)
        return {name: workers.gather(torch.cat(each.scores)) for name, each in self.running.items()}


def made(name: str, recipe: Recipe, normalisation: Normalisation | None) -> Detector:
    """Return a new detector for a run; raise Mistake if there is none of this name.

    Detectors on logits can do without the normalisation where it is not known.
    """
    kind = DETECTORS.find(name)
    with _blamed(name):
        detector = kind()
        detector.recipe = recipe
        if normalisation is not None:
            detector.normalisation = normalisation
    return detector


def scores_of_logits(detector: Detector, logits: Tensor) -> np.ndarray:
    """Return the scores, float64 (n,), that a detector on logits gives logits (n, K) of any precision."""
    beat(f"scoring by {detector.name}")
    with _blamed(detector.name):
        found = detector.score(logits.double())
    return checked(detector.name, found, len(logits))


def checked(name: str, scores: object, n: int) -> np.ndarray:
    """Return a detector's scores of n images as float64 (n,); raise DetectorFailed if they cannot be used."""
    found: np.ndarray = _shaped(name, scores, n).detach().double().cpu().numpy()
    broken = ~np.isfinite(found)
    if broken.any():
        raise DetectorFailed(
            f"the detector {name} gave {found[broken][0]:g} for {broken.sum()} of {n} images: every score "
            "must be a finite number"
        )
    return found


def _shaped(name: str, scores: object, n: int) -> Tensor:
    """Return the scores; raise DetectorFailed unless they are a tensor (n,)."""
    if isinstance(scores, Tensor) and scores.shape == (n,):
        return scores
    got = f"a tensor of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
    raise DetectorFailed(f"the detector {name} returned {got} for {n} images: it must return shape ({n},)")


def _blamed(name: str) -> contextlib.AbstractContextManager[None]:
    return blamed(DetectorFailed, f"the detector {name}")


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
        for batch in _batches(part.images, rows, "validation"):
            logits = network(normalisation(center_crop(batch, recipe.image_size)))
            correct += (logits.argmax(1) == labels[start : start + len(batch)]).sum()
            broken += (~logits.isfinite()).any()
            start += len(batch)
    right, wrong = workers.total(torch.stack([correct, broken])).tolist()
    return math.nan if wrong else right / len(part)


@contextlib.contextmanager
def _evaluating(network: WideResNet, *, gradients: bool = True) -> Iterator[None]:
    """Set evaluation mode and full precision, uncompiled, and freeze the parameters without `gradients`."""
    was_training, wanted = network.training, [p.requires_grad for p in network.parameters()]
    network.eval()
    network.requires_grad_(gradients)
    try:
        with full_precision(next(network.parameters()).device), uncompiled(network):
            yield
    finally:
        for parameter, before in zip(network.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)
        network.train(was_training)


def images_per_batch(images: ImageTable) -> int:
    """Return the images per batch, fewer if they are large, so that memory is about that of training."""
    return max(1, min(LARGEST_BATCH, PIXELS_PER_BATCH // images.side**2))


def _batches(images: ImageTable, rows: Tensor, phase: str = "scoring") -> Iterator[Tensor]:
    for chosen in rows.split(images_per_batch(images)):
        beat(phase)
        yield images.gather(chosen)

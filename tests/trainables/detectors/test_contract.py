"""Every detector is held to the contract."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.detectors.examples import Example, blobs
from trainables.data.normalisation import Normalisation
from trainables.detectors import DETECTORS, Detector
from trainables.detectors.contract import FEATURES, LOGITS, NETWORK
from trainables.metrics import auroc
from trainables.recipe import Recipe

LABELS = {
    "energy": "Energy",
    "entropy": "Entropy",
    "knn": "KNN",
    "mahalanobis": "Mahalanobis",
    "max-logit": "Max logit",
    "msp": "MSP",
    "odin": "ODIN",
    "vim": "ViM",
}


class Linear(nn.Module):
    """A network whose inputs (n, D, 1, 1) are the features, so that all detectors see the same images."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.weight, self.bias = example.weight, example.bias

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self.weight.T + self.bias


def prepared(name: str, example: Example) -> Detector:
    """Return a detector that is ready to score, as a cell makes it."""
    detector = DETECTORS.find(name)()
    dimensions = example.features.shape[1]
    detector.recipe = Recipe()
    detector.normalisation = Normalisation(torch.zeros(dimensions), torch.ones(dimensions))
    if detector.needs == FEATURES:
        detector.fit(*example.training)
    return detector


def scored(detector: Detector, example: Example, rows: Tensor | slice = slice(None)) -> Tensor:
    """Return the detector's scores of some rows of the test images, given what it needs."""
    features, logits = example.features[rows], example.logits[rows]
    if detector.needs == LOGITS:
        return detector.score(logits.double())
    if detector.needs == FEATURES:
        return detector.score(features, logits)
    inputs = features[:, :, None, None].clone().requires_grad_(detector.gradients)
    network = Linear(example)
    return detector.score(network, inputs, network(inputs))


def replaced(example: Example, features: Tensor, tested: Tensor) -> Example:
    """Return the example's classifier with other images."""
    logits, tested_logits = (each @ example.weight.T + example.bias for each in (features, tested))
    labels = example.training[2]
    return Example((features, logits, labels), tested, tested_logits, example.weight, example.bias)


def scaled(example: Example, factor: float) -> Example:
    """Return the example with a classifier whose weights are larger."""
    larger = Example(
        example.training, example.features, example.logits, factor * example.weight, factor * example.bias
    )
    return replaced(larger, example.training[0], example.features)


def hard_cases() -> dict[str, Example]:
    """Return examples in which a formula divides by zero, inverts a singular matrix or overflows."""
    example = blobs()
    features, tested = example.training[0], example.features
    dead = torch.cat([torch.ones(8), torch.zeros(4)])
    return {
        "constant features": replaced(example, torch.full_like(features, 0.3), torch.full_like(tested, 0.3)),
        "constant training features": replaced(example, torch.full_like(features, 0.3), tested),
        "zero features": replaced(example, torch.zeros_like(features), torch.zeros_like(tested)),
        "zero training features": replaced(example, torch.zeros_like(features), tested),
        "zero test features": replaced(example, features, torch.zeros_like(tested)),
        "units that are dead": replaced(example, features * dead, tested * dead),
        "units that are dead in training": replaced(example, features * dead, tested),
        "one image per class": blobs(per_class=1),
        "one image per class in many dimensions": blobs(per_class=1, dimensions=100),
        "fewer images than dimensions": blobs(per_class=5, dimensions=100),
        "tiny features": replaced(example, features * 1e-18, tested * 1e-18),
        "logits of 1e4": scaled(example, 1e4 / example.logits.abs().max().item()),
        "two classes": blobs(classes=2),
        "one class": blobs(classes=1),
    }


HARD = hard_cases()
NAMES = DETECTORS.names


def test_every_detector_is_found_by_its_file() -> None:
    assert {name: DETECTORS.find(name).label for name in DETECTORS.built_in} == LABELS


@pytest.mark.parametrize("name", NAMES)
def test_a_class_says_what_it_is(name: str) -> None:
    found = DETECTORS.find(name)
    assert found.name == name
    assert re.fullmatch("[a-z][a-z0-9-]*", name)
    assert found.needs in (LOGITS, FEATURES, NETWORK)
    assert not found.gradients or found.needs == NETWORK


@pytest.mark.parametrize(("name", "case"), itertools.product(NAMES, HARD))
def test_scores_are_finite_and_one_per_image(name: str, case: str) -> None:
    scores = scored(prepared(name, HARD[case]), HARD[case])
    assert scores.shape == (40,)
    assert scores.is_floating_point()
    assert scores.isfinite().all()
    assert not scores.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_higher_is_more_anomalous(name: str) -> None:
    example = blobs(tests=80)
    # Anomalies are far from all classes, in directions to which the classifier is blind.
    noise = 6 * torch.randn(80, 12, generator=torch.Generator().manual_seed(5))
    unseen = noise - noise @ torch.linalg.pinv(example.weight) @ example.weight
    is_anomaly = torch.arange(80) >= 40
    mixed = replaced(example, example.training[0], torch.where(is_anomaly[:, None], unseen, example.features))
    assert auroc(scored(prepared(name, mixed), mixed).numpy(), is_anomaly.numpy()) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    example = blobs()
    expected = scored(prepared(name, example), example)
    order = torch.randperm(len(example.features), generator=torch.Generator().manual_seed(0))
    training = torch.randperm(len(example.training[0]), generator=torch.Generator().manual_seed(1))
    features, logits, labels = (each[training] for each in example.training)
    shuffled = Example(
        (features, logits, labels), example.features, example.logits, example.weight, example.bias
    )
    torch.testing.assert_close(
        scored(prepared(name, shuffled), shuffled, order), expected[order], rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_scored_by_itself(name: str) -> None:
    example = blobs()
    detector = prepared(name, example)
    expected = scored(detector, example)
    rows = torch.tensor([3, 17, 18, 39])
    torch.testing.assert_close(scored(detector, example, rows), expected[rows], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(scored(detector, example), expected, rtol=0, atol=0)  # nor by what came before


@pytest.mark.parametrize("name", NAMES)
def test_instances_share_nothing(name: str) -> None:
    one, other = blobs(seed=1), blobs(seed=2)
    detector = prepared(name, one)
    expected = scored(detector, one)
    scored(prepared(name, other), other)
    assert torch.equal(scored(detector, one), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_detector_is_given_is_left_as_it_is(name: str) -> None:
    example = blobs()
    before = [each.clone() for each in (*example.training, example.features, example.logits)]
    scored(prepared(name, example), example)
    after = (*example.training, example.features, example.logits)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))

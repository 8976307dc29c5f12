"""The Mahalanobis distance against scipy and pytorch-ood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytorch_ood.detector import Mahalanobis as Reference
from scipy.spatial.distance import mahalanobis

from tests.trainables.detectors.examples import Example, blobs
from trainables.detectors.mahalanobis import Mahalanobis


def fitted(example: Example) -> Mahalanobis:
    detector = Mahalanobis()
    detector.fit(*example.training)
    return detector


def definition(example: Example) -> list[float]:
    """Return the scores image by image, with the inverse of a covariance of full rank."""
    features, labels = example.training[0].double().numpy(), example.training[2].numpy()
    means = [features[labels == label].mean(0) for label in np.unique(labels)]
    outer = [
        np.outer(each - means[label], each - means[label])
        for each, label in zip(features, labels, strict=True)
    ]
    inverse = np.linalg.inv(np.mean(outer, 0))
    tested = example.features.double().numpy()
    return [min(mahalanobis(each, mean, inverse) ** 2 for mean in means) for each in tested]


def test_it_is_the_squared_distance_to_the_nearest_class() -> None:
    example = blobs()
    scores = fitted(example).score(example.features, example.logits)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx(definition(example), rel=1e-6)


@pytest.fixture
def _default_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_default_double")
def test_it_is_pytorch_ood_s_but_for_a_factor() -> None:
    # pytorch-ood halves the distance and does not divide the covariance by n. Its 1e-6 on the diagonal
    # matters little where no direction has a small variance. It keeps its means in the default dtype.
    example = blobs()
    features, _, labels = example.training
    reference = Reference(None).fit_features(features.double(), labels)
    expected = 2 * len(features) * reference.predict_features(example.features.double())
    scores = fitted(example).score(example.features, example.logits)
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=0)


def test_units_that_are_constant_or_collinear_change_nothing() -> None:
    example = blobs()

    def widened(features: torch.Tensor) -> torch.Tensor:
        constant = torch.full((len(features), 1), 0.7)
        return torch.cat([features, constant, features[:, :1] / 3 + features[:, 1:2]], 1)

    _, logits, labels = example.training
    wide = Mahalanobis()
    wide.fit(widened(example.training[0]), logits, labels)
    # Rounding the collinear unit to float32 must not become a direction of its own. The pseudo-inverse
    # weighs the directions that remain as before, because the distance does not depend on the coordinates.
    torch.testing.assert_close(
        wide.score(widened(example.features), example.logits),
        fitted(example).score(example.features, example.logits),
        rtol=1e-4,
        atol=0,
    )


def test_one_image_per_class_leaves_nothing_to_score_by() -> None:
    example = blobs(per_class=1)
    scores = fitted(example).score(example.features, example.logits)
    assert torch.equal(scores, torch.zeros(len(example.features), dtype=torch.float64))


def test_labels_need_not_be_contiguous() -> None:
    example = blobs()
    features, logits, labels = example.training
    detector = Mahalanobis()
    detector.fit(features, logits, 10 * labels + 3)
    expected = fitted(example).score(example.features, example.logits)
    assert torch.equal(detector.score(example.features, example.logits), expected)

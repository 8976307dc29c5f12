"""The distance to the k-th neighbour against numpy and pytorch-ood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_ood import detector as reference_detectors

from tests.trainables.detectors.examples import Example, blobs
from trainables.detectors import knn
from trainables.detectors.knn import KNN


def fitted(example: Example) -> KNN:
    detector = KNN()
    detector.fit(*example.training)
    return detector


def definition(example: Example, k: int) -> list[float]:
    """Return the scores image by image, by sorting all distances."""
    scores = []
    training = [each / np.sqrt((each**2).sum()) for each in example.training[0].double().numpy()]
    for each in example.features.double().numpy():
        unit = each / np.sqrt((each**2).sum())
        scores.append(sorted(np.sqrt(((unit - other) ** 2).sum()) for other in training)[k - 1])
    return scores


@pytest.mark.parametrize(("per_class", "k"), [(60, 50), (12, 48), (1, 4)])  # at most 50, and all if fewer
def test_it_is_the_distance_to_the_k_th_neighbour(per_class: int, k: int) -> None:
    example = blobs(per_class=per_class)
    scores = fitted(example).score(example.features, example.logits)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx(definition(example, k), abs=1e-12)


def test_it_is_pytorch_ood_s() -> None:
    example = blobs()
    features, _, labels = example.training
    # It searches in the dtype that it is given.
    reference = reference_detectors.KNN(None, k=50).fit_features(features.double(), labels)
    expected = reference.predict_features(example.features.double())
    torch.testing.assert_close(
        fitted(example).score(example.features, example.logits), expected, rtol=0, atol=1e-7
    )


def test_zero_features_stay_zero() -> None:
    detector = KNN()
    detector.k = 1
    features = torch.cat([torch.eye(3), torch.zeros(1, 3)])
    detector.fit(features, torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]))
    tested = torch.tensor([[0.0, 0, 0], [0, 5, 0], [-1, -1, -1]])
    assert detector.score(tested, torch.zeros(3, 2)).tolist() == [0, 0, 1]


def test_equal_images_have_distance_zero() -> None:
    example = blobs(per_class=60)
    detector = KNN()
    detector.k = 1
    detector.fit(*example.training)
    scores = detector.score(example.training[0], example.training[1])
    assert torch.equal(scores, torch.zeros(240, dtype=torch.float64))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    example = blobs()
    whole = fitted(example).score(example.features, example.logits)
    monkeypatch.setattr(knn, "DISTANCES_PER_BLOCK", 7 * 240)
    blocks = fitted(example).score(example.features, example.logits)
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)

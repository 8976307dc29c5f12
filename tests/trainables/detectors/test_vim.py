"""ViM against numpy and pytorch-ood, both of which are given the classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_ood.detector import ViM as Reference
from scipy.special import logsumexp

from tests.trainables.detectors.examples import Example, blobs
from trainables.detectors.energy import Energy
from trainables.detectors.vim import ViM, classifier_origin, principal_dimension


def fitted(example: Example) -> ViM:
    detector = ViM()
    detector.fit(*example.training)
    return detector


def in_double(example: Example) -> Example:
    """Return the same images with features and logits in float64, without rounding."""
    weight, bias = example.weight.double(), example.bias.double()
    training, tested = example.training[0].double(), example.features.double()
    return Example(
        (training, training @ weight.T + bias, example.training[2]),
        tested,
        tested @ weight.T + bias,
        weight,
        bias,
    )


def definition(example: Example, dimension: int) -> np.ndarray:
    """Return the scores from the classifier, with the basis of the complement by a singular value
    decomposition."""
    weight, bias = example.weight.double().numpy(), example.bias.double().numpy()
    training, tested = example.training[0].double().numpy(), example.features.double().numpy()
    origin = np.linalg.lstsq(weight, -bias, rcond=None)[0]
    complement = np.linalg.svd(training - origin)[2][dimension:]

    def residuals(features: np.ndarray) -> np.ndarray:
        return np.sqrt((((features - origin) @ complement.T) ** 2).sum(1))

    largest = (training @ weight.T + bias).max(1)
    alpha = largest.sum() / residuals(training).sum()
    return alpha * residuals(tested) - logsumexp(tested @ weight.T + bias, axis=1)


@pytest.mark.parametrize("dimensions", [12, 31])
def test_it_is_the_definition_without_the_classifier(dimensions: int) -> None:
    example = in_double(blobs(dimensions=dimensions))
    scores = fitted(example).score(example.features, example.logits)
    np.testing.assert_allclose(scores.numpy(), definition(example, dimensions // 2), rtol=1e-6)


def test_rounding_to_float32_costs_little() -> None:
    example = blobs()
    scores = fitted(example).score(example.features, example.logits)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores.numpy(), definition(example, 6), rtol=1e-5, atol=1e-5)


def test_it_is_pytorch_ood_s(monkeypatch: pytest.MonkeyPatch) -> None:
    example = in_double(blobs())
    scores = fitted(example).score(example.features, example.logits)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # pytorch-ood would compute in float32
    reference = Reference(None, d=6, w=example.weight, b=example.bias)
    reference.fit_features(example.training[0], example.training[2])
    torch.testing.assert_close(scores, reference.predict_features(example.features), rtol=1e-6, atol=0)


def test_the_origin_is_the_classifier_s() -> None:
    example = in_double(blobs())
    origin = classifier_origin(*example.training[:2])
    expected = -np.linalg.pinv(example.weight.numpy()) @ example.bias.numpy()
    np.testing.assert_allclose(origin.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_units_that_are_always_zero_add_only_what_a_test_image_has_there() -> None:
    example = in_double(blobs())
    features, logits, labels = example.training

    def widened(some: torch.Tensor, by: float) -> torch.Tensor:
        return torch.cat([some, torch.full((len(some), 3), by, dtype=some.dtype)], 1)

    wide, narrow = ViM(), fitted(example)
    wide.fit(widened(features, 0), logits, labels)
    narrow.principal = wide.principal[:12]  # half of 15 units instead of half of 12
    narrow.alpha = wide.alpha
    dead = wide.score(widened(example.features, 0), example.logits)
    torch.testing.assert_close(dead, narrow.score(example.features, example.logits), rtol=1e-9, atol=1e-9)
    assert (wide.score(widened(example.features, 1), example.logits) > dead).all()


def test_few_images_leave_half_of_what_they_span_as_the_residual() -> None:
    example = blobs(per_class=1, dimensions=40)  # 4 images in 40 dimensions, of which 20 would hold them all
    detector = fitted(example)
    assert detector.principal.shape == (40, 2)
    assert 0 < detector.alpha < 1e3


def test_without_any_variation_it_is_the_energy() -> None:
    detector = ViM()
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    detector.fit(torch.zeros(6, 8), logits, torch.arange(6) % 3)
    assert torch.equal(detector.score(torch.ones(6, 8), logits), Energy().score(logits.double()))


@pytest.mark.parametrize(
    ("features", "expected"), [(64, 32), (640, 320), (767, 383), (768, 512), (2047, 512), (2048, 1000)]
)
def test_the_principal_space_has_the_authors_dimension_or_half(features: int, expected: int) -> None:
    assert principal_dimension(features) == expected

"""The entropy against scipy and pytorch-ood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_ood.detector import Entropy as Reference
from scipy.special import softmax
from scipy.stats import entropy

from trainables.detectors.entropy import Entropy


def test_it_is_the_entropy_of_the_softmax() -> None:
    logits = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)).double() * 5
    expected = entropy(softmax(logits.numpy(), axis=1), axis=1)
    np.testing.assert_allclose(Entropy().score(logits).numpy(), expected, atol=1e-12)


def test_it_is_pytorch_ood_s_where_that_does_not_clip() -> None:
    logits = torch.randn(100, 6, generator=torch.Generator().manual_seed(1)).double()
    assert logits.softmax(1).min() > 1e-7  # pytorch-ood raises smaller probabilities to 1e-7
    torch.testing.assert_close(Entropy().score(logits), Reference.score(logits))


def test_it_is_0_for_certain_and_log_k_for_uniform_predictions() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4]], dtype=torch.float64)
    assert Entropy().score(logits).tolist() == pytest.approx([0, math.log(3)], abs=1e-12)


def test_confident_predictions_keep_their_rank() -> None:
    logits = torch.zeros(200, 5, dtype=torch.float64)
    logits[:, 0] = torch.linspace(10, 30, 200)
    assert (Entropy().score(logits).diff() < 0).all()

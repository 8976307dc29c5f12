"""MSP against the definition and pytorch-ood."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_ood.detector import MaxSoftmax

from trainables.detectors.msp import MSP


def test_it_is_minus_the_largest_softmax_probability() -> None:
    logits = torch.randn(100, 7, generator=torch.Generator().manual_seed(0)) * 5
    exponentials = np.exp(logits.numpy().astype(np.float64))
    expected = -(exponentials / exponentials.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(MSP().score(logits).numpy(), expected, atol=1e-14)


def test_it_is_pytorch_ood_s() -> None:
    logits = torch.randn(100, 7, generator=torch.Generator().manual_seed(1)).double() * 5
    torch.testing.assert_close(MSP().score(logits), MaxSoftmax.score(logits))


def test_confident_predictions_keep_their_rank() -> None:
    logits = torch.zeros(200, 5)
    logits[:, 0] = torch.linspace(10, 30, 200)
    assert (logits.softmax(1).max(1).values == 1).any()  # float32 would tie them
    assert len(MSP().score(logits).unique()) == 200

"""The energy against the definition and pytorch-ood."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_ood.detector import EnergyBased

from trainables.detectors.energy import Energy


def test_it_is_minus_the_logarithm_of_the_summed_exponentials() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double() * 5
    expected = [-math.log(math.fsum(math.exp(value) for value in row)) for row in logits.tolist()]
    assert Energy().score(logits).tolist() == pytest.approx(expected, abs=1e-12)


def test_it_is_pytorch_ood_s() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double() * 5
    torch.testing.assert_close(Energy().score(logits), EnergyBased.score(logits))


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[1e4, 0.0], [-1e4, -1e4]], dtype=torch.float64)
    assert Energy().score(logits).tolist() == pytest.approx([-1e4, 1e4 - math.log(2)])

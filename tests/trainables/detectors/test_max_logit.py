"""The maximum logit against the definition and pytorch-ood."""

from __future__ import annotations

import torch
from pytorch_ood.detector import MaxLogit as Reference

from trainables.detectors.max_logit import MaxLogit


def test_it_is_minus_the_largest_logit() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double() * 5
    assert MaxLogit().score(logits).tolist() == [-sorted(row)[-1] for row in logits.tolist()]
    assert torch.equal(MaxLogit().score(logits), Reference.score(logits))

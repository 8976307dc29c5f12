"""ODIN: softmax at a high temperature, after a small step that makes the network more confident."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.normalisation import Normalisation
from trainables.detectors.contract import NETWORK, Detector
from trainables.detectors.msp import MSP
from trainables.recipe import Recipe

TEMPERATURE = 1000.0
"""ODIN's temperature T."""
EPSILON = 5e-5
"""ODIN's step for pixels scaled to 0..1, the same for all experiments (paper, section 4)."""


class ODIN(Detector):
    """Minus the largest softmax probability at temperature T of an input that was moved a step.

    Source: Liang, Li & Srikant (2018, ICLR), "Enhancing the reliability of out-of-distribution image
    detection in neural networks": softmax(logits / T), equation 1, at the input of equation 2,
    x - step * sign(gradient with respect to x of the cross-entropy between softmax(logits / T) and the
    predicted class). Here sign(0) = +1. T and the step are those of this project's paper; they are not tuned
    on anomalies, as Liang et al. do. The step is EPSILON in units of pixels, so that it is divided by each
    channel's standard deviation.
    """

    name = "odin"
    label = "ODIN"
    needs = NETWORK
    gradients = True

    def score(self, network: nn.Module, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the scores, float64 (n,), of normalised inputs (n, C, H, W) and their logits (n, K).

        The logits carry the graph to the inputs, which is freed.
        """
        step = odin_step(self.normalisation, self.recipe)
        with torch.enable_grad():
            loss = F.cross_entropy(logits / TEMPERATURE, logits.argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inputs)
        with torch.no_grad():
            stepped = torch.where(gradient >= 0, inputs - step, inputs + step)
            return MSP().score(network(stepped).double() / TEMPERATURE)


def odin_step(normalisation: Normalisation, recipe: Recipe) -> Tensor:
    """Return ODIN's step in normalised units, (1, C, 1, 1); "byte" divides by deviations of 0..255 pixels."""
    scale = 255.0 if recipe.odin_units == "byte" else 1.0
    return (EPSILON / (scale * normalisation.std)).view(1, -1, 1, 1)

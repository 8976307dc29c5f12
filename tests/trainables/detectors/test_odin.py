"""ODIN against the definition in float64 and pytorch-ood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_ood import detector as reference_detectors
from torch import Tensor, nn

from trainables.data.normalisation import Normalisation
from trainables.detectors.odin import ODIN, odin_step
from trainables.networks.wide_resnet import WideResNet, initialise
from trainables.recipe import Recipe

STD = torch.tensor([0.2, 0.25, 0.3])
RECIPE = Recipe(depth=10, width=1, image_size=8)


@pytest.fixture
def network() -> WideResNet:
    network = WideResNet(RECIPE, 3, 5)
    initialise(network, torch.Generator().manual_seed(0))
    return network.eval()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def detector(std: Tensor = STD, recipe: Recipe = RECIPE) -> ODIN:
    odin = ODIN()
    odin.recipe, odin.normalisation = recipe, Normalisation(torch.zeros_like(std), std)
    return odin


def scored(odin: ODIN, network: nn.Module, inputs: Tensor) -> Tensor:
    """Score as the contract says: the logits carry the graph to the inputs."""
    inputs = inputs.detach().requires_grad_()
    return odin.score(network, inputs, network(inputs))


def definition(network: WideResNet, inputs: Tensor, std: Tensor) -> np.ndarray:
    """Return ODIN's scores in float64 from the definition, using only the network from this project."""
    network = network.double()
    x = inputs.double().clone().requires_grad_()
    tempered = network(x) / 1000
    probability = torch.exp(tempered) / torch.exp(tempered).sum(1, keepdim=True)
    (-probability.max(1).values.log()).sum().backward()
    assert x.grad is not None
    sign = np.where(x.grad.numpy() >= 0, 1.0, -1.0)
    moved = torch.from_numpy(x.detach().numpy() - 5e-5 / std.double().view(1, -1, 1, 1).numpy() * sign)
    with torch.no_grad():
        tempered = network(moved) / 1000
    exponentials = np.exp(tempered.numpy())
    return -(exponentials / exponentials.sum(1, keepdims=True)).max(1)


def test_it_is_the_definition(network: WideResNet, inputs: Tensor) -> None:
    scores = scored(detector(), network, inputs).numpy()
    np.testing.assert_allclose(scores, definition(network, inputs, STD), atol=1e-9)


def test_it_is_pytorch_ood_s(network: WideResNet, inputs: Tensor) -> None:
    # In float64, because pytorch-ood's softmax at T = 1000 would have ties in float32. It takes sign(0) = 0,
    # and no gradient is 0 here.
    network, inputs = network.double(), inputs.double()
    reference = reference_detectors.ODIN(network, eps=5e-5, temperature=1000.0, norm_std=STD.tolist())
    torch.testing.assert_close(
        scored(detector(STD.double()), network, inputs), reference.predict(inputs), rtol=0, atol=1e-9
    )


def test_the_step_matters(network: WideResNet, inputs: Tensor) -> None:
    still = -(network(inputs).double() / 1000).softmax(1).max(1).values
    assert (scored(detector(), network, inputs) < still).float().mean() > 0.9  # the step adds confidence


def test_the_sign_of_zero_counts_as_plus(network: WideResNet) -> None:
    torch.nn.init.zeros_(network.classifier.weight)  # no gradient anywhere
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    scored(detector(torch.full((3,), 5e-5 / 0.25)), network, torch.zeros(1, 3, 8, 8))
    torch.testing.assert_close(seen[1], torch.full((1, 3, 8, 8), -0.25))


def test_the_step_is_in_units_of_pixels_or_of_bytes() -> None:
    normalisation = Normalisation(torch.zeros(3), STD)
    unit = odin_step(normalisation, Recipe())
    assert unit.shape == (1, 3, 1, 1)
    assert unit.flatten().tolist() == pytest.approx([5e-5 / 0.2, 5e-5 / 0.25, 5e-5 / 0.3])
    torch.testing.assert_close(odin_step(normalisation, Recipe(odin_units="byte")) * 255, unit)

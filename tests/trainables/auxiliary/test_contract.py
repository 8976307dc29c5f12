"""The contract of auxiliary tasks, and rotation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.auxiliary import OWN_NORM_TASKS, build_task
from trainables.auxiliary.rotation import orient
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import WideResNet, initialise
from trainables.recipe import Recipe
from trainables.run import AUXILIARY_TASKS

RECIPES = {
    "rotation": Recipe(depth=10, width=1, image_size=16),
    "cpc": Recipe(
        depth=10, width=1, image_size=56, padding="symmetric", batch_size=8, cpc_batch_size=8, cpc_channels=32
    ),
}
NORMALISE = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.25))


def test_every_task_is_held_to_the_contract() -> None:
    assert RECIPES.keys() == set(AUXILIARY_TASKS), "give each task a recipe that it fits"


@pytest.fixture(params=sorted(RECIPES))
def contract(request: pytest.FixtureRequest) -> tuple:
    """Return a task, the network that it shares, and images."""
    recipe = RECIPES[request.param]
    own_tasks = tuple(name for name in OWN_NORM_TASKS if name == request.param)
    network = WideResNet(recipe, 3, 5, own_tasks)
    task = build_task(request.param, network, recipe)
    initialise(network, torch.Generator().manual_seed(0))
    initialise(task, torch.Generator().manual_seed(1))
    images = torch.randint(
        0,
        256,
        (12, recipe.image_size, recipe.image_size, 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(2),
    )
    return task, network, images


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def loss_of(task, network, images, draws) -> torch.Tensor:
    return task.loss(network, images[draws.rows], draws, NORMALISE)


def test_draws_repeat_from_their_generator(contract: tuple) -> None:
    task, _, _ = contract
    one, other = (task.draw(torch.arange(8), generator()) for _ in range(2))
    assert torch.equal(one.rows, other.rows)
    for name, values in one.each.items():
        assert torch.equal(values, other.each[name])
        assert len(values) == len(one.rows)


def test_the_task_uses_all_images_that_it_is_given(contract: tuple) -> None:
    task, _, _ = contract
    assert 1 <= task.images_per_step(64) <= 64
    assert set(task.draw(torch.arange(8), generator()).rows.tolist()) == set(range(8))


def test_shares_of_the_workers_have_the_whole_batch_s_mean_loss(contract: tuple) -> None:
    """Batch norm is in evaluation mode, since batch statistics differ between workers."""
    task, network, images = contract
    network.eval()
    draws = task.draw(torch.arange(8), generator())
    whole = loss_of(task, network, images, draws)
    half = len(draws.rows) // 2
    parts = [
        loss_of(task, network, images, draws.take(part)) for part in (slice(0, half), slice(half, 2 * half))
    ]
    assert torch.allclose(whole, (parts[0] + parts[1]) / 2, atol=1e-5)


def test_the_loss_reaches_trunk_and_head_but_not_the_classifier(contract: tuple) -> None:
    task, network, images = contract
    loss = loss_of(task, network, images, task.draw(torch.arange(8), generator()))
    assert loss.ndim == 0
    loss.backward()
    assert network.stem.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())
    assert network.classifier.weight.grad is None


def test_the_task_can_be_learned(contract: tuple) -> None:
    task, network, images = contract
    optimiser = torch.optim.SGD([*network.parameters(), *task.parameters()], lr=0.05, momentum=0.9)
    draws = task.draw(torch.arange(8), generator())
    losses = []
    for _ in range(25):
        loss = loss_of(task, network, images, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_task_s_state_is_its_head_s_only(contract: tuple) -> None:
    task, network, _ = contract
    trunk = {id(p) for p in network.parameters()}
    assert not trunk & {id(p) for p in task.parameters()}
    again = build_task(task.name, network, RECIPES[task.name])
    again.load_state_dict(task.state_dict())


def test_rotation_shows_every_image_in_all_four_orientations() -> None:
    network = WideResNet(RECIPES["rotation"], 3, 5)
    task = build_task("rotation", network, RECIPES["rotation"])
    draws = task.draw(torch.tensor([7, 3, 5]), generator())
    seen = set(zip(draws.rows.tolist(), draws.each["orientation"].tolist(), strict=True))
    assert seen == {(row, k) for row in (7, 3, 5) for k in range(4)}
    assert task.images_per_step(128) == 32


@pytest.mark.parametrize("transposes", [False, True])
def test_orientations_are_numpy_s(transposes: bool) -> None:
    images = torch.randint(0, 256, (8, 6, 6, 3), dtype=torch.uint8, generator=generator())
    orientation = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    turned = orient(images, orientation, transposes=transposes).numpy()
    flips: list[Callable] = [
        lambda x: x,
        lambda x: x[::-1],
        lambda x: x.transpose(1, 0, 2),
        lambda x: x[::-1].transpose(1, 0, 2),
    ]
    for image, k, found in zip(images.numpy(), orientation.tolist(), turned, strict=True):
        expected = flips[k](image) if transposes else np.rot90(image, k)
        np.testing.assert_array_equal(found, expected)

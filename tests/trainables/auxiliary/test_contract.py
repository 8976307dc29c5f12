"""The contract of auxiliary tasks, which is checked for every one of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from trainables.auxiliary import TASKS, AuxiliaryTask, Draws, TaskModule, find_task
from trainables.data.normalisation import Normalisation
from trainables.networks.wide_resnet import WideResNet, initialise
from trainables.recipe import Recipe
from trainables.spaces import parse_space

SMALL = Recipe(depth=10, width=1, image_size=16)
RECIPES = {
    "cpc": Recipe(
        depth=10, width=1, image_size=56, padding="symmetric", batch_size=8, cpc_batch_size=8, cpc_channels=32
    ),
}
"""Recipes of tasks that SMALL does not fit."""
NORMALISE = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.25))


class Built(NamedTuple):
    task: AuxiliaryTask
    head: TaskModule
    network: WideResNet
    images: Tensor


def recipe_of(name: str) -> Recipe:
    return RECIPES.get(name, SMALL)


@pytest.fixture(params=TASKS.names)
def contract(request: pytest.FixtureRequest) -> Built:
    """Return a task, its head, the network that it shares, and images."""
    recipe = recipe_of(request.param)
    task = find_task(request.param, recipe)
    network = WideResNet(recipe, 3, 5, (task.name,) if task.own_norm else ())
    head = task.build(network, recipe)
    initialise(network, torch.Generator().manual_seed(0))
    initialise(head, torch.Generator().manual_seed(1))
    images = torch.randint(
        0,
        256,
        (12, recipe.image_size, recipe.image_size, 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(2),
    )
    return Built(task, head, network, images)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def loss_of(head: TaskModule, network: WideResNet, images: Tensor, draws: Draws) -> Tensor:
    return head.loss(network, images[draws.rows], draws, NORMALISE)


def test_a_file_s_name_is_its_task_s() -> None:
    assert TASKS.built_in
    for name in TASKS.built_in:
        assert TASKS.find(name).name == name
        assert importlib.import_module(f"trainables.auxiliary.modules.{name.replace('-', '_')}")


@pytest.mark.parametrize("name", TASKS.names)
def test_a_task_s_plan_needs_no_torch(name: str) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from trainables.auxiliary import AuxiliaryTask, find_task
from trainables.recipe import Recipe
from trainables.run import check_fits
recipe = Recipe(image_size=224)
task = find_task({name!r}, recipe)
assert isinstance(task, AuxiliaryTask) and task.images_per_step(64) and task.flops(recipe) and task.space
assert task.shared(recipe, 2) and not check_fits({name!r}, recipe)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_task_is_described(contract: Built) -> None:
    task = contract.task
    assert parse_space(str(task.space)) == task.space
    assert task.flops(recipe_of(task.name)) > 0
    task.check_fits(recipe_of(task.name))
    assert task.shared(recipe_of(task.name), 1) == recipe_of(task.name)


def test_draws_repeat_from_their_generator(contract: Built) -> None:
    head = contract.head
    one, other = (head.draw(torch.arange(8), generator()) for _ in range(2))
    assert torch.equal(one.rows, other.rows)
    for name, values in one.each.items():
        assert torch.equal(values, other.each[name])
        assert len(values) == len(one.rows)


def test_the_task_uses_all_images_that_it_is_given(contract: Built) -> None:
    task, head, _, _ = contract
    assert 1 <= task.images_per_step(64) <= 64
    assert set(head.draw(torch.arange(8), generator()).rows.tolist()) == set(range(8))


def test_shares_of_the_workers_have_the_whole_batch_s_mean_loss(contract: Built) -> None:
    """Batch norm is in evaluation mode, since batch statistics differ between workers."""
    _, head, network, images = contract
    network.eval()
    draws = head.draw(torch.arange(8), generator())
    whole = loss_of(head, network, images, draws)
    half = len(draws.rows) // 2
    parts = [
        loss_of(head, network, images, draws.take(part)) for part in (slice(0, half), slice(half, 2 * half))
    ]
    assert torch.allclose(whole, (parts[0] + parts[1]) / 2, atol=1e-5)


def test_the_loss_reaches_trunk_and_head_but_not_the_classifier(contract: Built) -> None:
    _, head, network, images = contract
    loss = loss_of(head, network, images, head.draw(torch.arange(8), generator()))
    assert loss.ndim == 0
    loss.backward()
    assert network.stem.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert network.classifier.weight.grad is None


def test_the_task_can_be_learned(contract: Built) -> None:
    _, head, network, images = contract
    optimiser = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    draws = head.draw(torch.arange(8), generator())
    losses = []
    for _ in range(25):
        loss = loss_of(head, network, images, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_task_s_state_is_its_head_s_only(contract: Built) -> None:
    task, head, network, _ = contract
    trunk = {id(p) for p in network.parameters()}
    assert not trunk & {id(p) for p in head.parameters()}
    again = task.build(network, recipe_of(task.name))
    again.load_state_dict(head.state_dict())

"""A task that somebody else wrote, all in one file, and what it can do without a word from the project."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.planning.request import Request, draft
from search_spaces import find_benchmark
from trainables.auxiliary import TASKS, AuxiliaryTask, Draws, TaskModule, find_task
from trainables.cell import CellRun
from trainables.data.prepared import Prepared
from trainables.flops import Work, run_flops
from trainables.mistake import Mistake
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe
from trainables.run import check_fits
from trainables.spaces import LogUniform


class Negative(AuxiliaryTask):
    """Telling whether an image is a negative."""

    name = "negative"
    space = LogUniform(0.1, 1)
    own_norm = True

    def flops(self, recipe: Recipe) -> int:
        return 1000 * recipe.depth

    def check_fits(self, recipe: Recipe) -> None:
        if recipe.flip:
            raise Mistake("flip=true does not fit negative: set flip=false.")

    def build(self, network: WideResNet, recipe: Recipe) -> TaskModule:
        return Judge(network)


class Plain(Negative):
    """The same with the contract's defaults."""

    name = "plain"
    own_norm = False
    flops = AuxiliaryTask.flops


class Judge(TaskModule):
    def __init__(self, network: WideResNet) -> None:
        super().__init__()
        self.judge = nn.Linear(network.features, 1)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draws:
        return Draws(rows, {"turned": torch.rand(len(rows), generator=generator) < 0.5})

    def loss(self, network: WideResNet, images_NHWC: Tensor, draws: Draws, normalise: Callable) -> Tensor:
        turned = draws.each["turned"].to(images_NHWC.device)
        images = torch.where(turned[:, None, None, None], 255 - images_NHWC, images_NHWC)
        answers = self.judge(network.embed(normalise(images), "negative")).squeeze(1)
        return F.binary_cross_entropy_with_logits(answers, turned.float())


@pytest.fixture(autouse=True)
def _brought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "_brought", {})
    TASKS.bring(Negative, "negative")
    TASKS.bring(Plain, "plain")


def test_it_trains_beside_a_built_in_task(digits: Prepared, quick_run: Callable) -> None:
    cell = CellRun(quick_run("rotation+negative", epochs=4), digits)
    before = cell.training.heads["negative"].judge.weight.detach().clone()  # type: ignore[union-attr]
    history = list(cell.epochs())
    assert not torch.equal(before, cell.training.heads["negative"].judge.weight)  # type: ignore[union-attr]
    losses = [row["aux/negative_loss"] for row in history]
    assert losses[-1] < losses[0]
    assert all(row["aux/rotation_loss"] > 0 for row in history)
    norms = {name for name, _ in cell.training.network.named_parameters() if ".by_task.negative." in name}
    assert {name.split(".")[1] for name in norms} == {"0", "1", "2"}, "norms of its own in three groups"
    means = [
        values for name, values in cell.training.network.named_buffers()
        if ".by_task.negative.running_mean" in name
    ]  # fmt: skip
    assert all(mean.abs().sum() > 0 for mean in means), "its steps move its statistics"


@pytest.mark.parametrize("benchmark", ["digits", "cifar10", "imagenet-dog"])
def test_it_is_planned_on_every_benchmark(benchmark: str) -> None:
    methods = ("center-mask+plain+negative+rotation",)
    request = Request(benchmark, methods=methods, assignments=("flip=false",))
    planned = draft(request).complete("cpu", find_benchmark(benchmark).classes)
    assert planned.methods == ("rotation+negative+plain+center-mask",)
    assert {task: str(space) for task, space in planned.spaces.items()} == {
        "rotation": "0.05..5",
        "negative": "0.1..1",
        "plain": "0.1..1",
    }


def test_a_recipe_that_it_does_not_fit_is_refused() -> None:
    with pytest.raises(Mistake, match="set flip=false"):
        draft(Request(methods=("negative",), assignments=("flip=true",)))
    check_fits("negative", Recipe(flip=False))


def test_its_own_count_of_flops_enters_the_plan() -> None:
    recipe = Recipe(depth=10, width=1, image_size=8, epochs=2)
    plain, work = "rotation", Work(50, 0)
    without, beside = (run_flops(recipe, m, work, 1, 9, search=True) for m in (plain, f"{plain}+negative"))
    assert beside - without == 2 * 50 * 1000 * 10


@pytest.mark.parametrize("channels", [1, 3])
def test_by_default_a_task_costs_both_passes_through_the_trunk(channels: int) -> None:
    recipe = Recipe(depth=10, width=1, image_size=8)
    images = torch.zeros(4, channels, 8, 8)
    with FlopCounterMode(display=False) as counter:
        WideResNet(recipe, channels, 5).embed(images, "plain").sum().backward()
    assert 4 * find_task("plain", recipe, channels).flops(recipe) == counter.get_total_flops()
    assert find_task("plain", recipe).images_per_step(16) == 16

"""CPC's parts compared with explicit formulas, and its learning on real photographs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import find_benchmark
from trainables.auxiliary import find_task
from trainables.auxiliary.modules.cpc import (
    Context,
    CPCModule,
    RowsAbove,
    distorted_patches,
    pair_scores,
    permuted,
)
from trainables.auxiliary.modules.patches import patch_geometry
from trainables.data.normalisation import Normalisation
from trainables.mistake import Mistake
from trainables.networks.wide_resnet import Conv, WideResNet, initialise, symmetric_pad
from trainables.recipe import Recipe
from trainables.run import check_fits

SMALL = Recipe(
    depth=10, width=1, image_size=56, padding="symmetric", batch_size=16, cpc_batch_size=16, cpc_channels=64
)
NORMALISE = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.25))
LN2 = math.log(2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(recipe: Recipe = SMALL) -> tuple[WideResNet, CPCModule]:
    network = WideResNet(recipe, 3, 5, ("cpc",))
    task = CPCModule(recipe)
    initialise(network, generator(1))
    initialise(task, generator(2))
    return network, task


def photographs(n: int, side: int) -> Tensor:
    """Return crops of scikit-learn's two photographs at a third of their size, uint8 (n, S, S, 3)."""
    from sklearn.datasets import load_sample_images

    scenes = [np.ascontiguousarray(image[::3, ::3]) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(n):
        scene = scenes[number % 2]
        top, left = (rng.integers(0, size - side + 1) for size in scene.shape[:2])
        crops.append(torch.from_numpy(scene[top : top + side, left : left + side].copy()))
    return torch.stack(crops)


def test_224_pixels_give_a_grid_of_six_by_six() -> None:
    geometry = patch_geometry(224)
    assert (geometry.side, geometry.stride, geometry.crop, geometry.pad) == (64, 32, 56, 4)
    corners = range(0, 224 - geometry.side + 1, geometry.stride)
    assert len(corners) == 6
    assert corners[-1] + geometry.side == 224


def test_a_distorted_patch_is_numpy_s_channel_reflection_crop_and_border() -> None:
    images = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8, generator=generator())
    _, task = built()
    draws = task.draw(torch.arange(2), generator(3))
    found = distorted_patches(images, draws).unflatten(0, (2, 2, 36)).numpy()
    geometry = patch_geometry(56)
    for image, version, place in [(0, 0, 0), (0, 1, 7), (1, 0, 35), (1, 1, 20), (0, 0, 13)]:
        at = (image, version, place)
        row, col = (index * geometry.stride for index in divmod(place, 6))
        patch = images[image, row : row + geometry.side, col : col + geometry.side].numpy()
        patch = patch[:, :, int(draws.each["channel"][at]) % 3]
        if draws.each["reflected"][at]:
            patch = patch[:, ::-1]
        top, left = draws.each["offset"][at].tolist()
        crop = patch[top : top + geometry.crop, left : left + geometry.crop]
        expected = np.pad(crop, geometry.pad, mode="reflect")
        for channel in range(3):
            np.testing.assert_array_equal(found[image, version, place, :, :, channel], expected)


@pytest.mark.parametrize("pad", [1, 2, 3])
def test_symmetric_padding_is_numpy_s(pad: int) -> None:
    x = torch.randn(2, 3, 5, 7, generator=generator())
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (pad, pad), (pad, pad)], mode="symmetric")
    np.testing.assert_array_equal(symmetric_pad(x, pad).numpy(), expected)


def test_every_convolution_of_the_classification_pass_pads_symmetrically() -> None:
    network, _ = built()
    wide = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1]
    assert wide
    assert all(isinstance(layer, Conv) and layer.mirror == 1 and layer.padding == (0, 0) for layer in wide)


def context_changes(context: nn.Module, row: int) -> list[bool]:
    """Return which rows of the context change if one row of the codes does."""
    codes = torch.randn(2, 16, 6, 6, generator=generator())
    changed = codes.clone()
    changed[:, :, row] += torch.randn(2, 16, 6, generator=generator(1))
    with torch.no_grad():
        difference = (context(codes) - context(changed)).abs().amax((0, 1, 3))
    return [bool(d > 1e-6) for d in difference]


@pytest.mark.parametrize("padding", ["symmetric", "zeros"])
def test_a_context_sees_its_row_and_those_above(padding: str) -> None:
    context = Context(16, 32, padding)
    initialise(context, generator(2))
    for row in range(1, 6):
        assert context_changes(context, row)[:row] == [False] * row
        assert context_changes(context, row)[row]
    masked = next(layer for layer in context.modules() if isinstance(layer, RowsAbove))
    masked.mask.fill_(1)
    assert context_changes(context, 3)[2]  # without the mask a row sees the one below


def test_a_score_is_the_mean_product_of_prediction_and_code() -> None:
    codes = torch.randn(2, 8, 6, 6, generator=generator())
    predictions = torch.randn(2, 5, 8, 6, 6, generator=generator(1))
    scores = pair_scores(predictions, codes)
    pairs = [(row, below) for row in range(6) for below in range(row + 1, 6)]
    assert scores.shape == (2, 15, 6)
    for image in range(2):
        for number, (row, below) in enumerate(pairs):
            for col in range(6):
                prediction = predictions[image, below - row - 1, :, row, col]
                expected = float((prediction * codes[image, :, below, col]).sum() / 8)
                assert scores[image, number, col].item() == pytest.approx(expected, abs=1e-6)


def test_scores_of_bfloat16_codes_are_taken_in_float32() -> None:
    codes = torch.randn(2, 64, 6, 6, generator=generator()).bfloat16()
    predictions = torch.randn(2, 5, 64, 6, 6, generator=generator(1)).bfloat16()
    scores = pair_scores(predictions, codes)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, pair_scores(predictions.float(), codes.float()))


def test_the_loss_is_the_two_way_cross_entropy() -> None:
    _, task = built()
    size = task.norm.by_task["classification"].num_features
    seen, negatives = torch.randn(2, 3, size, 6, 6, generator=generator()).unbind(0)
    predictions = task.predict(seen)
    logits = torch.stack([pair_scores(predictions, seen), pair_scores(predictions, negatives)], -1)
    expected = -torch.log_softmax(logits.double(), -1)[..., 0].mean()
    assert logits[..., 0].numel() == 3 * 90
    assert task.contrast(seen, seen, negatives).item() == pytest.approx(expected.item(), abs=1e-6)


def test_predictions_are_ordered_by_distance_and_row() -> None:
    """A prediction is the linear map of its distance, applied to the context at its place."""
    _, task = built()
    size = task.norm.by_task["classification"].num_features
    codes = torch.randn(2, size, 6, 6, generator=generator())
    predictions, context = task.predict(codes), task.context(codes)
    weight = task.predictors.weight.view(5, size, -1)
    expected = weight[3] @ context[1, :, 2, 4]
    assert torch.allclose(predictions[1, 3, :, 2, 4], expected, atol=1e-5)


def test_a_permutation_moves_whole_codes() -> None:
    codes = torch.arange(2 * 3 * 36).float().view(2, 3, 6, 6)
    order = torch.randperm(36, generator=generator())
    moved = permuted(codes, order)
    assert torch.equal(moved[1, :, 2, 3], codes[1, :, order[15] // 6, order[15] % 6])


def test_each_task_moves_its_own_statistics_only() -> None:
    network, task = built()
    images = photographs(4, 56)

    def statistics(name: str) -> list[Tensor]:
        return [b.clone() for n, b in network.named_buffers() if f"by_task.{name}." in n]

    shared = [n for n, _ in network.named_buffers() if "by_task.cpc." in n]
    assert {n.split(".")[1] for n in shared} == {"0", "1", "2"}
    before = {name: statistics(name) for name in ("classification", "cpc")}
    task.loss(network, images, task.draw(torch.arange(4), generator()), NORMALISE)
    after = {name: statistics(name) for name in ("classification", "cpc")}
    assert all(map(torch.equal, before["classification"], after["classification"]))
    assert not any(map(torch.equal, before["cpc"], after["cpc"]))
    network(NORMALISE(images))
    assert all(map(torch.equal, after["cpc"], statistics("cpc")))
    assert not all(map(torch.equal, after["classification"], statistics("classification")))


def trained(positives_permuted: bool, steps: int) -> list[float]:
    """Return the losses of training on photographs, for CPC or its control with permuted positives."""
    torch.manual_seed(0)
    network, task = built()
    images = photographs(16, 56)
    optimiser = torch.optim.SGD(
        [*network.parameters(), *task.parameters()], lr=0.1, momentum=0.9, nesterov=True
    )
    draws_of, losses = generator(5), []
    for _ in range(steps):
        rows = torch.randperm(16, generator=draws_of)[:8]
        draws = task.draw(rows, draws_of)
        if positives_permuted:
            crops = images[rows]
            codes = task.encode(network, NORMALISE(distorted_patches(crops, draws)))
            seen, other = codes.unflatten(0, (-1, 2)).unbind(1)
            first, second = (torch.randperm(36, generator=draws_of) for _ in range(2))
            loss = task.contrast(seen, permuted(other, first), permuted(other, second))
        else:
            loss = task.loss(network, images[rows], draws, NORMALISE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_untrained_codes_are_at_chance() -> None:
    network, task = built()
    losses = [
        task.loss(network, photographs(16, 56), task.draw(torch.arange(16), generator(s)), NORMALISE).item()
        for s in range(3)
    ]
    assert sum(losses) / 3 == pytest.approx(LN2, abs=0.1)


@pytest.mark.slow
def test_cpc_learns_on_photographs_but_not_with_permuted_positives() -> None:
    """The control shows that the loss falls because of the patches below, and not because of a leak."""
    assert sum(trained(False, 200)[-20:]) / 20 < LN2 - 0.1
    control = trained(True, 120)[-40:]
    # 40 steps x 8 images x 90 terms: the standard error of the mean is below 0.005.
    assert sum(control) / 40 == pytest.approx(LN2, abs=0.02)


def test_cpc_s_flops_are_torch_s() -> None:
    network, task = built()
    images = photographs(2, 56)
    draws = task.draw(torch.arange(2), generator())
    with FlopCounterMode(display=False) as counter:
        task.loss(network, images, draws, NORMALISE).backward()
    expected = 2 * find_task("cpc", SMALL).flops(SMALL)
    # Within 2%: torch also counts a gradient for the context network's first input or leaves one out.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("recipe", "channels", "flops"),
    [
        (find_benchmark("cifar10").recipe, 3, 30081024.0),
        (find_benchmark("imagenet-dog").recipe_for(("cpc",)), 1, 45836402688.0),
        (find_benchmark("imagenet-dog").recipe_for(("cpc",)), 3, 45878870016.0),
        (find_benchmark("image-folder").recipe_for(("cpc",)), 3, 21962686464.0),
    ],
    ids=["cifar10", "imagenet-grey", "imagenet", "image-folder"],
)
def test_cpc_s_flops_are_version_0_1_s(recipe: Recipe, channels: int, flops: float) -> None:
    """Plans of sweeps that exist keep their cost."""
    assert find_task("cpc", recipe, channels).flops(recipe) == flops


def test_cpc_s_batch_is_in_proportion_to_classification_s() -> None:
    recipe = Recipe(batch_size=64, cpc_batch_size=32, image_size=224)
    assert [find_task("cpc", recipe).images_per_step(size) for size in (64, 20, 1)] == [32, 10, 1]
    assert find_task("cpc", recipe).shared(recipe, 4).cpc_batch_size == 8
    assert find_task("cpc", recipe).shared(recipe, 64).cpc_batch_size == 1


@pytest.mark.parametrize(("size", "near"), [(64, 56), (30, 56), (100, 112)])
def test_sides_without_whole_patches_are_mistakes(size: int, near: int) -> None:
    with pytest.raises(Mistake, match=f"image_size={size} does not fit cpc.* such as {near}"):
        check_fits("rotation+cpc", Recipe(image_size=size))
    check_fits("rotation+cpc", Recipe(image_size=near))
    check_fits("rotation", Recipe(image_size=size))

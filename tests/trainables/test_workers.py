"""Several workers with gloo give the same weights and scores as one, and lose no image."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.images import folder_request
from tests.trainables.auxiliary.test_cpc import photographs
from trainables import scoring
from trainables.data.cache import prepare
from trainables.data.holdout import open_final, open_test
from trainables.data.prepared import Prepared
from trainables.detectors import DETECTORS
from trainables.networks.batch_norm import SynchronisedBatchNorm
from trainables.recipe import Recipe
from trainables.run import Run, parse_method
from trainables.scoring import Scorer
from trainables.train import Training
from trainables.workers import Workers, as_they_lie

EPOCHS, GLOBAL_BATCH, IMAGES = 5, 16, 64


def recipe(size: int, **changes: object) -> Recipe:
    """Return a recipe with GLOBAL_BATCH images per step of all workers, and 4 steps per epoch."""
    share = GLOBAL_BATCH // size
    fields = {"depth": 10, "width": 1, "image_size": 16, "padding": "symmetric", "epochs": EPOCHS}
    small = {"batch_size": share, "cpc_batch_size": max(1, share // 2), "cpc_channels": 16, "ap_window": 1}
    return Recipe(**{**fields, **small, "learning_rate": 0.05, **changes})  # type: ignore[arg-type]


def run_of(method: str, size: int, **changes: object) -> Run:
    weights = dict.fromkeys(parse_method(method).auxiliary, 0.5)
    return Run("image-folder", "c", method, 0, recipe(size, **changes), weights, False, workers=size)


def training_of(run: Run, prepared: Prepared, workers: Workers) -> Training:
    """Return a training in float64, so that rounding hides no difference."""
    training = Training(run, open_final(prepared, run), workers)
    for module in (training.network, *training.heads.values()):
        module.double()
    plain = training.normalisation
    training.normalisation = lambda images: plain(images).double()  # type: ignore[assignment]
    return training


def freeze_norms(training: Training) -> None:
    """Make batch norm use running statistics, since batch statistics differ between workers."""
    for module in (training.network, *training.heads.values()):
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
                layer.train = lambda mode=True, layer=layer: layer  # type: ignore[method-assign]


def weights_after(run: Run, prepared: Prepared, workers: Workers, *, frozen: bool) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    training = training_of(run, prepared, workers)
    if frozen:
        freeze_norms(training)
    for _ in range(run.recipe.epochs):
        metrics = training.train_epoch()
    modules = {"network": training.network, **training.heads}
    found = {f"{m}.{n}": v for m, module in modules.items() for n, v in module.state_dict().items()}
    return {**found, "loss": torch.tensor(metrics["train/loss"], dtype=torch.float64)}


def in_group(size: int, function, *arguments: object) -> list:
    """Return a function's results in several processes that form a gloo group."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports that take seconds are done once
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:  # a file to meet at, since a port could be taken meanwhile
        meeting = f"file://{folder}/store"
        processes = [
            context.Process(target=_member, args=(rank, size, meeting, answers, function, arguments))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        try:
            found = dict(answers.get(timeout=600) for _ in processes)
            for process in processes:
                process.join(timeout=60)
        finally:
            for process in processes:
                process.kill()
    return [found[rank] for rank in range(size)]


def _member(rank: int, size: int, meeting: str, answers, function, arguments) -> None:
    dist.init_process_group("gloo", meeting, rank=rank, world_size=size)
    result = function(*arguments, Workers(rank, size))
    plain = {k: v.numpy() for k, v in result.items()} if isinstance(result, dict) else result
    answers.put((rank, plain))
    dist.barrier()
    dist.destroy_process_group()


def _trained(run: Run, prepared: Prepared, frozen: bool, workers: Workers) -> dict[str, Tensor]:
    return weights_after(run, prepared, workers, frozen=frozen)


def pieces(root: Path, side: int) -> Prepared:
    """Prepare 96 training and 21 test images of three classes, pieces of photographs."""
    for number, piece in enumerate(photographs(3 * 39, side).numpy()):
        split = "train" if number < 96 else "test"
        folder = root / "images" / split / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(piece).save(folder / f"{number:03d}.png")
    return prepare(folder_request(root / "images", root / "cache", side=side))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return pieces(tmp_path_factory.mktemp("small"), 16)


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return images of a size that CPC can divide into patches."""
    return pieces(tmp_path_factory.mktemp("large"), 56)


def assert_one_and_two_workers_agree(method: str, prepared: Prepared, **changes: object) -> None:
    plain = weights_after(run_of(method, 1, **changes), prepared, Workers(), frozen=True)
    assert IMAGES // GLOBAL_BATCH * EPOCHS == 20
    one = in_group(1, _trained, run_of(method, 1, **changes), prepared, True)
    two = in_group(2, _trained, run_of(method, 2, **changes), prepared, True)
    for found in (*one, *two):
        assert found.keys() == plain.keys()
        for name, value in plain.items():
            # Sums over workers have another order, so rounding errors of float64 remain.
            np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=1e-10, err_msg=name)


def test_two_workers_reach_the_weights_of_one_and_of_the_plain_loop(prepared: Prepared) -> None:
    assert_one_and_two_workers_agree("rotation", prepared)


@pytest.mark.slow
def test_two_workers_reach_the_weights_of_one_with_cpc(patched: Prepared) -> None:
    assert_one_and_two_workers_agree("cpc", patched, image_size=56)


def test_two_workers_with_synchronised_norm_reach_the_weights_of_one(prepared: Prepared) -> None:
    plain = weights_after(run_of("rotation", 1), prepared, Workers(), frozen=False)
    run = run_of("rotation", 2, synchronised_batch_norm=True)
    for found in in_group(2, _trained, run, prepared, False):
        for name, value in plain.items():
            np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=1e-8, err_msg=name)


def test_workers_without_synchronised_norm_equal_one_worker_s_micro_batches(
    prepared: Prepared,
) -> None:
    plain = weights_after(run_of("rotation", 1), prepared, Workers(), frozen=False)
    halves = run_of("rotation", 1, micro_batch=GLOBAL_BATCH // 2)
    micro = weights_after(halves, prepared, Workers(), frozen=False)
    (first, second) = in_group(2, _trained, run_of("rotation", 2), prepared, False)
    assert abs(first["network.stem.weight"] - plain["network.stem.weight"].numpy()).max() > 1e-4
    for name in first:  # but all workers have the same weights
        np.testing.assert_array_equal(first[name], second[name])
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            np.testing.assert_allclose(first[name], micro[name].numpy(), rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(("method", "data", "side"), [("rotation", "prepared", 16), ("cpc", "patched", 56)])
def test_an_auxiliary_step_in_micro_batches_equals_a_whole_one(
    method: str, data: str, side: int, request: pytest.FixtureRequest
) -> None:
    """Compare without batch statistics and dropout; the draws of 11 images have no 8 equal parts."""
    torch.set_num_threads(1)
    found, passes = [], []
    for micro in (0, 2):
        run = run_of(method, 1, image_size=side, micro_batch=micro)
        training = training_of(run, request.getfixturevalue(data), Workers())
        freeze_norms(training)
        training.network.train()
        passed: list[int] = []
        training.network.stem.register_forward_hook(lambda *call, passed=passed: passed.append(len(call[2])))
        (task,), (head,) = training.tasks, training.heads.values()
        before = training.network.stem.weight.detach().clone()
        loss = training._auxiliary_step(task, head.draw(torch.arange(11), torch.Generator().manual_seed(0)))
        assert (training.network.stem.weight - before).abs().max() > 1e-4
        weights = [*training.network.parameters(), *head.parameters()]
        found.append(torch.cat([loss[None], *(p.detach().flatten() for p in weights)]))
        passes.append(passed)
    np.testing.assert_allclose(found[1].numpy(), found[0].numpy(), rtol=0, atol=1e-10)
    assert (len(passes[0]), len(passes[1])) == (1, 8)
    assert sum(passes[1]) == sum(passes[0])
    assert len(set(passes[1])) == 2


def _recalibrated(runs: dict[str, Run], prepared: Prepared, workers: Workers) -> dict[str, Tensor]:
    """Return each run's running statistics of the untrained network, and the weights after an epoch."""
    torch.set_num_threads(1)
    found = {}
    for label, run in runs.items():
        training = training_of(run, prepared, workers)
        training.recalibrate()
        found |= {f"{label}.{name}": value.clone() for name, value in training.network.named_buffers()}
        training.train_epoch()
        found |= {f"{label}.{name}": value.detach() for name, value in training.network.named_parameters()}
    return found


def test_recalibration_allows_workers_different_numbers_of_batches(digits: Prepared) -> None:
    """969 images are in batches of at most 121: two workers have 484 and 485, so 4 and 5 batches; one has 9.

    For the first norm every image weighs 1/969, to within one image's weight, which changes a channel's mean
    by 0.001 deviations. Inputs of deeper norms were normalised in different batches: of some 100 images of
    2x2 places, whose variance is known to sqrt(2/400) = 7%, and the mean of 9 to a third of that. The
    tolerance is three times as much, which is little for the largest deviation of hundreds of channels.
    """
    fields = {"padding": "zeros", "epochs": 1, "image_size": 8, "batch_size": 121}
    run = dataclasses.replace(run_of("classification", 1, **fields), benchmark="digits", holdout="1")
    whole = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, synchronised_batch_norm=True))
    assert len(open_final(digits, run).training) == 969
    alone = _recalibrated({"one": run}, digits, Workers())
    first, second = in_group(2, _recalibrated, {"whole": whole, "apart": run}, digits)
    norms = [name.removesuffix("_mean") for name in alone if name.endswith("running_mean")]
    assert len(norms) == 7
    for norm in norms:
        near, spread = (0.001, 0.01) if norm == norms[0] else (0.05, 0.1)
        mean, var = (norm.replace("one.", "whole.") + end for end in ("_mean", "_var"))
        deviation = alone[f"{norm}_var"].sqrt().numpy()
        assert (abs(first[mean] - alone[f"{norm}_mean"].numpy()) < near * deviation).all(), norm
        assert (abs(first[var] / deviation**2 - 1) < spread).all(), norm
        for name in (mean, var):
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
            # Synchronised or not, each worker's batches are normalised alone here.
            np.testing.assert_array_equal(first[name], first[name.replace("whole.", "apart.")], err_msg=name)
    np.testing.assert_array_equal(first["whole.stem.weight"], second["whole.stem.weight"])
    assert abs(first["whole.stem.weight"] - first["apart.stem.weight"]).max() > 1e-5  # but trained together


def _scored(run: Run, prepared: Prepared, workers: Workers) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    training = Training(dataclasses.replace(run, workers=1), open_final(prepared, run))
    with mock.patch.object(scoring, "LARGEST_BATCH", 4):
        scorer = Scorer(DETECTORS.built_in, run.recipe, training.normalisation, workers)
        found = scorer.score(training.network, open_test(prepared, run), training.part)
    return {name: torch.from_numpy(scores) for name, scores in found.by_detector.items()}


def test_scoring_loses_no_image_if_workers_have_unequal_shares(prepared: Prepared) -> None:
    run = run_of("classification", 1)
    assert sum(prepared.counts["test"]) % 2 == 1
    alone = _scored(run, prepared, Workers())
    for found in in_group(2, _scored, run, prepared):
        for name, value in alone.items():
            # Batches of another size may round differently in float32, which the inverse of a covariance
            # magnifies where images hardly vary.
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (16, 4), (2, 5), (0, 2)])
def test_shares_are_disjoint_and_cover_everything(n: int, size: int) -> None:
    shares = [range(n)[Workers(rank, size).share(n)] for rank in range(size)]
    assert [index for share in shares for index in share] == list(range(n))


def test_a_synchronised_norm_alone_is_batch_norm() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        own, torchs = SynchronisedBatchNorm(3).double(), nn.BatchNorm2d(3).double()
        x = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(value) for norm, value in zip((own, torchs), inputs, strict=True)]
        for out in outputs:
            out.square().mul(torch.arange(5.0)).sum().backward()
        assert torch.allclose(outputs[0], outputs[1], atol=1e-12)
        assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-10)
        assert torch.allclose(own.running_var, torchs.running_var, atol=1e-12)
    finally:
        dist.destroy_process_group()


def test_gradients_are_averaged_by_one_message_and_one_copy(tmp_path: Path) -> None:
    """A group of one stands in for the first of two workers, so that every gradient is halved."""

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    names: list[str] = []
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 2), (4,), (2, 2, 3))]
    for number, parameter in enumerate(parameters[:2], start=1):
        parameter.grad = torch.full_like(parameter, float(number))
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with Counted():
            Workers(0, 2).average_gradients(parameters)
    finally:
        dist.destroy_process_group()
    assert [None if p.grad is None else p.grad.unique().tolist() for p in parameters] == [[0.5], [1.0], None]
    assert [name for name in names if "copy" in name] == ["aten._foreach_copy_.default"]
    assert len([name for name in names if "allreduce" in name]) == 1


def test_gradients_as_they_lie_are_contiguous_views_of_them() -> None:
    shapes = [(4, 3, 3, 3), (4, 3, 1, 1), (4, 1, 3, 3), (1, 2, 2, 2)]
    last = [torch.randn(shape).to(memory_format=torch.channels_last) for shape in shapes]
    found = as_they_lie([*last, torch.randn(4, 3, 3, 3), torch.randn(5, 2), torch.randn(3)])
    assert all(each.is_contiguous() for each in found)
    torch._foreach_copy_(found, [torch.full_like(each, 7.0) for each in found])
    assert all((each == 7).all() for each in last)

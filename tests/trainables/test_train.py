"""The training loop: bit-for-bit reproducible, resumable, with the steps that the paper describes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch

from trainables.auxiliary import Draws
from trainables.cell import CellRun
from trainables.data.holdout import open_final
from trainables.data.normalisation import measure
from trainables.data.prepared import Prepared
from trainables.train import Diverged, Training, learning_rate
from trainables.workers import Workers


def trained(run: object, digits: Prepared, epochs: int | None = None) -> CellRun:
    cell = CellRun(run, digits)  # type: ignore[arg-type]
    for row in cell.epochs():
        if row["epoch"] == epochs:
            break
    return cell


def timeless(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in history]


def same_weights(one: CellRun, other: CellRun) -> bool:
    pairs = zip(
        one.training.network.state_dict().values(), other.training.network.state_dict().values(), strict=True
    )
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("method", ["classification", "rotation", "center-mask", "rotation+center-mask"])
def test_a_run_resumed_after_an_epoch_equals_an_uninterrupted_one(
    digits: Prepared, quick_run: Callable, method: str
) -> None:
    run = quick_run(method, epochs=3, dropout=0.2, ap_window=3)
    whole = trained(run, digits)
    stopped = trained(run, digits, epochs=1)
    snapshot = stopped.snapshot()
    torch.rand(17)  # other use of the process must not matter
    resumed = CellRun(run, digits)
    resumed.restore(snapshot)
    for _ in resumed.epochs():
        pass
    assert same_weights(whole, resumed)
    assert timeless(resumed.history) == timeless(whole.history)
    assert resumed.result() == whole.result()


def test_a_run_resumed_after_its_last_epoch_still_has_its_scores(
    digits: Prepared, quick_run: Callable
) -> None:
    run = quick_run()
    whole = trained(run, digits)
    resumed = CellRun(run, digits)
    resumed.restore(whole.snapshot())
    assert list(resumed.epochs()) == []
    assert resumed.result() == whole.result()
    assert resumed.scores is not None
    assert whole.scores is not None
    for name, scores in whole.scores.by_detector.items():
        assert (resumed.scores.by_detector[name] == scores).all()


def test_methods_with_one_seed_start_from_the_same_network(digits: Prepared, quick_run: Callable) -> None:
    plain, rotation = (CellRun(quick_run(method), digits) for method in ("classification", "rotation"))
    assert same_weights(plain, rotation)
    assert not same_weights(plain, CellRun(quick_run(seed=1), digits))


def test_the_learning_rate_drops_by_five_at_the_paper_s_epochs() -> None:
    steps = 97 * 200
    rates = [learning_rate(0.1, 97 * epoch, steps) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert learning_rate(0.1, 97 * 60 - 1, steps) == 0.1


def test_normalisation_is_that_of_the_run_s_own_training_images(
    digits: Prepared, quick_run: Callable
) -> None:
    part = open_final(digits, quick_run(holdout="3")).training
    pixels = part.images.gather(part.rows).double() / 255
    found = measure(part)
    assert found.mean.item() == pytest.approx(pixels.mean().item(), abs=1e-7)
    assert found.std.item() == pytest.approx(pixels.std(correction=0).item(), abs=1e-7)


def test_one_classification_step_is_torch_s_sgd_written_out(digits: Prepared, quick_run: Callable) -> None:
    """Compare Nesterov momentum, L2 on all parameters and the mean loss with the formula in float64."""
    training = CellRun(quick_run(flip=False, crop_padding=0.0), digits).training
    training.network.double()
    before = copy.deepcopy(training.network)
    positions = torch.arange(32)
    from trainables.data.augment import Views

    views = Views(torch.zeros(32, 2, dtype=torch.int64), torch.zeros(32, dtype=torch.bool))
    training.normalisation = measure(training.part)
    normalise = training.normalisation

    class InDouble:
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return normalise(images).double()

    training.normalisation = InDouble()  # type: ignore[assignment]
    training._classification_step(training.part.rows[positions], training.part.labels[positions], views)
    inputs = normalise(training.part.images.gather(training.part.rows[positions])).double()
    before.train()
    logits = before(inputs).float().double()
    picked = logits.log_softmax(1)[torch.arange(32), training.part.labels[positions]]
    (-picked.mean()).backward()
    for old, new in zip(before.parameters(), training.network.parameters(), strict=True):
        assert old.grad is not None
        gradient = old.grad + 5e-4 * old
        expected = old - 0.1 * (gradient + 0.9 * gradient)
        assert torch.allclose(new, expected, atol=1e-6)  # the loss itself is taken in float32


def test_micro_batches_accumulate_to_the_batch_s_gradient(digits: Prepared, quick_run: Callable) -> None:
    """With batch norm in evaluation mode, micro-batches give the gradient of the whole batch."""
    gradients = []
    for micro in (0, 16):
        training = CellRun(quick_run(micro_batch=micro), digits).training
        training.network.eval()
        training._step = lambda name: None  # type: ignore[method-assign]
        from trainables.data.augment import draw_views

        views = draw_views(64, training.recipe, torch.Generator().manual_seed(0))
        training._classification_step(training.part.rows[:64], training.part.labels[:64], views)
        gradients.append(torch.cat([p.grad.flatten() for p in training.network.parameters()]))  # type: ignore[union-attr]
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_both_kinds_of_step_normalise_by_micro_batch(digits: Prepared, quick_run: Callable) -> None:
    training = CellRun(quick_run("rotation", micro_batch=16), digits).training
    seen: list[int | str] = []
    training.network.stem.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    step = training._step
    training._step = lambda name: (seen.append(name), step(name))  # type: ignore[method-assign, assignment]
    training.train_epoch()
    assert seen == [16, 16, 16, 16, "rotation", 16, 16, 16, 16, "classification"] * training.steps_per_epoch


@pytest.mark.parametrize(("draws", "parts"), [(64, 4), (30, 4), (8, 4), (7, 3), (5, 2), (2, 1)])
def test_a_micro_batch_of_draws_equals_a_worker_s_share(
    digits: Prepared, quick_run: Callable, draws: int, parts: int
) -> None:
    """Two workers with four micro-batches each take the shares of eight workers; none is empty."""
    run, taken = quick_run("rotation", micro_batch=16), []
    for rank in (0, 1):
        training = Training(run, open_final(digits, run), Workers(rank, 2))
        drawn = Draws(torch.arange(draws), {"orientation": 100 + torch.arange(draws)})
        taken += training._micro_parts(drawn)
    shares = [Workers(rank, 2 * parts).share(draws) for rank in range(2 * parts)]
    assert [part.rows.tolist() for part in taken] == [list(range(draws)[share]) for share in shares]
    assert all(torch.equal(part.each["orientation"], 100 + part.rows) for part in taken)


@pytest.mark.parametrize(("statistics", "moves"), [("primary", False), ("shared", True)])
def test_rotation_steps_feed_the_running_statistics_only_if_asked(
    digits: Prepared, quick_run: Callable, statistics: str, moves: bool
) -> None:
    training = CellRun(quick_run("rotation", batch_norm_statistics=statistics), digits).training
    before = training.network.norm.by_task["classification"].running_mean.clone()
    training.network.train()
    next(training._auxiliary_steps(training.tasks[0], 1))
    after = training.network.norm.by_task["classification"].running_mean
    assert torch.equal(before, after) != moves


def test_a_rotation_step_does_not_change_the_classifier(digits: Prepared, quick_run: Callable) -> None:
    training = CellRun(quick_run("rotation"), digits).training
    training.network.train()
    classifier, head = training.network.classifier.weight, training.heads["rotation"].head.weight  # type: ignore[union-attr]
    stem = training.network.stem.weight
    kept = classifier.detach().clone(), head.detach().clone(), stem.detach().clone()
    next(training._auxiliary_steps(training.tasks[0], 1))
    assert torch.equal(classifier, kept[0])
    assert not torch.equal(head, kept[1])
    assert not torch.equal(stem, kept[2])
    assert set(training.optimisers) == {"classification", "rotation"}
    assert training.optimisers["classification"].state == {}  # two optimisers, two momenta


def test_lambda_scales_the_task_s_loss_but_not_the_l2(digits: Prepared, quick_run: Callable) -> None:
    from dataclasses import replace

    moved = []
    for weight in (0.0, 1.0, 2.0):
        run = replace(quick_run("rotation", momentum=0.0), aux_weights={"rotation": weight})
        training = CellRun(run, digits).training
        training.network.train()
        before = training.network.stem.weight.detach().clone()
        next(training._auxiliary_steps(training.tasks[0], 1))
        moved.append(training.network.stem.weight.detach() - before)
    decay = -0.1 * 5e-4 * before
    assert torch.allclose(moved[0], decay, atol=1e-7)
    assert torch.allclose(moved[2] - decay, 2 * (moved[1] - decay), rtol=1e-3, atol=1e-6)


def test_recalibrated_statistics_are_those_of_upright_training_images(
    digits: Prepared, quick_run: Callable
) -> None:
    cell = CellRun(quick_run(batch_norm_statistics="recalibrated", batch_size=5000), digits)
    training = cell.training
    training.recalibrate()
    stem = []
    training.network.stem.register_forward_hook(lambda module, inputs, output: stem.append(output))
    training.network.eval()
    training.network(training.normalisation(training.part.images.gather(training.part.rows)))
    norm = training.network.groups[0][0].norm1.by_task["classification"]
    assert torch.allclose(norm.running_mean, stem[0].mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, stem[0].var((0, 2, 3)), atol=1e-4)


def test_recalibration_weighs_images_alike_where_the_batch_size_does_not_divide_them(
    digits: Prepared, quick_run: Callable
) -> None:
    count = len(open_final(digits, quick_run()).training)
    run = quick_run(batch_norm_statistics="recalibrated", batch_size=count - 2)  # all but two, and two
    training = CellRun(run, digits).training
    sizes: list[int] = []
    training.network.stem.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    training.recalibrate()
    assert sorted(sizes) == [count // 2, count - count // 2]


def test_an_epoch_may_have_the_length_of_the_whole_set(digits: Prepared, quick_run: Callable) -> None:
    kept, whole = (CellRun(quick_run(epoch_length=length), digits).training for length in ("kept", "whole"))
    total = sum(digits.counts["train"])
    without = total - digits.counts["train"][3]
    assert kept.steps_per_epoch == without // 64
    assert whole.steps_per_epoch == total // 64


@pytest.mark.filterwarnings("ignore")
def test_divergence_is_an_error_of_final_runs_and_a_value_of_search_runs(
    digits: Prepared, quick_run: Callable
) -> None:
    with pytest.raises(Diverged, match="diverged"):
        trained(quick_run(learning_rate=100.0, weight_decay=1.0, epochs=30), digits)
    search = trained(quick_run(search=True, learning_rate=100.0, weight_decay=1.0, epochs=30), digits)
    assert search.diverged
    result = search.result()
    assert (result["value"], result["diverged"]) == (0.0, True)


def test_a_last_step_that_leaves_weights_not_finite_is_divergence_too(
    digits: Prepared, quick_run: Callable
) -> None:
    """The loss was finite, so that only the weights show the divergence."""
    wild = {"epochs": 1, "learning_rate": 100.0, "weight_decay": 1.0, "momentum": 0.0}
    few = {"train_fraction": 0.1, "batch_size": 128}  # one step
    runs = [quick_run("rotation", search=search, **wild, **few) for search in (False, True)]
    final, search = (dataclasses.replace(run, aux_weights={"rotation": 1e30}) for run in runs)
    with pytest.raises(Diverged, match="not finite"):
        trained(final, digits)
    assert trained(search, digits).result() == {"value": 0.0, "diverged": True, "epochs": 0}


@pytest.mark.parametrize("search", [True, False])
def test_outputs_that_are_not_finite_are_divergence_though_the_weights_are(
    digits: Prepared, quick_run: Callable, search: bool
) -> None:
    cell = CellRun(quick_run(search=search, epochs=1), digits)
    with torch.no_grad():
        cell.training.network.classifier.weight.fill_(torch.finfo(torch.float32).max)
    cell.training.epoch = 1
    with pytest.raises(Diverged, match="answers were not finite"):
        cell._evaluate()


def test_recalibration_uses_the_uncompiled_trunk(digits: Prepared, quick_run: Callable) -> None:
    """Norms that take a plain mean would break the compiled graph into pieces."""
    training = CellRun(quick_run(batch_norm_statistics="recalibrated", train_fraction=0.2), digits).training
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    training.network.trunk = torch.compile(training.network.trunk, backend=backend)  # type: ignore[method-assign]
    training.recalibrate()
    assert graphs == []
    training.train_epoch()
    assert graphs != []


def test_weight_decay_may_spare_norms_and_biases(digits: Prepared, quick_run: Callable) -> None:
    data = open_final(digits, quick_run())
    everything, weights = (Training(quick_run(decay=decay), data) for decay in ("all", "weights"))
    spared = weights.optimisers["classification"].param_groups[1]["params"]
    assert everything.optimisers["classification"].param_groups[1]["params"] == []
    assert spared
    assert all(p.ndim == 1 for p in spared)


def test_loading_a_state_of_another_network_changes_nothing(digits: Prepared, quick_run: Callable) -> None:
    cell = CellRun(quick_run("rotation"), digits)
    before = {name: value.clone() for name, value in cell.training.network.state_dict().items()}
    other = CellRun(quick_run("rotation", seed=1), digits)
    other.training.train_epoch()
    state = other.training.state()
    state["optimisers"] = {}  # the network fits, what comes after it does not
    with pytest.raises(KeyError):
        cell.training.load(state)
    assert cell.training.epoch == 0
    for name, value in cell.training.network.state_dict().items():
        assert torch.equal(value, before[name]), name

"""Scores and average precision compared with scikit-learn and independent formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from trainables.cell import CellRun
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe
from trainables.scoring import _batch_size, average_precision, msp, odin, odin_step


def test_average_precision_is_scikit_learn_s_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        n = int(rng.integers(2, 200))
        levels = int(rng.integers(1, 50))
        scores = rng.integers(0, levels, n) / levels
        anomalies = rng.random(n) < rng.uniform(0.02, 0.9)
        anomalies[rng.integers(n)] = True
        assert average_precision(scores, anomalies) == pytest.approx(
            average_precision_score(anomalies, scores), abs=1e-12
        )


def test_average_precision_needs_an_anomaly_and_numbers() -> None:
    with pytest.raises(ValueError, match="at least one anomaly"):
        average_precision(np.array([0.1, 0.2]), np.array([False, False]))
    with pytest.raises(ValueError, match="NaN"):
        average_precision(np.array([0.1, np.nan]), np.array([False, True]))


def test_msp_is_minus_the_largest_softmax_probability() -> None:
    logits = torch.randn(100, 7, generator=torch.Generator().manual_seed(0)) * 5
    exponentials = np.exp(logits.numpy().astype(np.float64))
    expected = -(exponentials / exponentials.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(msp(logits).numpy(), expected, atol=1e-14)


def test_confident_predictions_keep_their_rank() -> None:
    logits = torch.zeros(200, 5)
    logits[:, 0] = torch.linspace(10, 30, 200)
    assert (logits.softmax(1).max(1).values == 1).any()  # float32 would tie them
    assert len(msp(logits).unique()) == 200


@pytest.fixture(scope="module")
def trained(digits: Prepared, request: pytest.FixtureRequest) -> CellRun:
    from dataclasses import replace

    from search_spaces import find_benchmark
    from trainables.run import Run

    recipe = replace(find_benchmark("digits").recipe, epochs=3, ap_window=1)
    cell = CellRun(Run("digits", "3", "classification", 0, recipe, {}, search=False), digits)
    for _ in cell.epochs():
        pass
    return cell


def reference_odin(network: WideResNet, inputs: torch.Tensor, std: torch.Tensor) -> np.ndarray:
    """Return ODIN's scores in float64 from the definition, using only the network from this project."""
    network = network.double().eval()
    x = inputs.double().clone().requires_grad_()
    tempered = network(x) / 1000
    probability = torch.exp(tempered) / torch.exp(tempered).sum(1, keepdim=True)
    (-probability.max(1).values.log()).sum().backward()
    sign = np.where(x.grad.numpy() >= 0, 1.0, -1.0)
    moved = torch.from_numpy(x.detach().numpy() - 5e-5 / std.double().view(1, -1, 1, 1).numpy() * sign)
    with torch.no_grad():
        tempered = network(moved) / 1000
    exponentials = np.exp(tempered.numpy())
    return -(exponentials / exponentials.sum(1, keepdims=True)).max(1)


def test_odin_is_the_formula_and_makes_no_false_ties(trained: CellRun) -> None:
    assert trained.test is not None
    assert trained.scores is not None
    normalisation = trained.training.normalisation
    inputs = normalisation(trained.test.images.gather(torch.arange(len(trained.test.images))))
    network = trained.training.network
    expected = reference_odin(network, inputs, normalisation.std)
    network.float()
    np.testing.assert_allclose(trained.scores.odin, expected, atol=1e-6)
    assert len(np.unique(trained.scores.odin)) == len(np.unique(trained.scores.logits, axis=0))
    ranks = np.argsort(np.argsort(trained.scores.odin))
    assert np.corrcoef(ranks, np.argsort(np.argsort(expected)))[0, 1] > 0.9999


def test_odin_counts_the_sign_of_zero_as_plus() -> None:
    network = WideResNet(Recipe(depth=10, width=1, image_size=8), 1, 2)
    torch.nn.init.zeros_(network.classifier.weight)  # no gradient anywhere
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    odin(network.eval(), torch.zeros(1, 1, 8, 8), torch.full((1, 1, 1, 1), 0.25))
    assert torch.equal(seen[1], torch.full((1, 1, 8, 8), -0.25))


def test_odin_s_step_is_in_units_of_pixels_or_of_bytes(trained: CellRun) -> None:
    normalisation = trained.training.normalisation
    unit = odin_step(normalisation, Recipe())
    assert unit.item() == pytest.approx(5e-5 / normalisation.std.item())
    assert odin_step(normalisation, Recipe(odin_units="byte")).item() == pytest.approx(unit.item() / 255)


def test_a_bfloat16_trained_network_is_scored_in_full_precision(
    digits: Prepared, quick_run: Callable
) -> None:
    cell = CellRun(quick_run(precision="bfloat16", epochs=1, train_fraction=0.2), digits)
    for _ in cell.epochs():
        pass
    assert cell.test is not None
    assert cell.scores is not None
    normalisation = cell.training.normalisation
    inputs = normalisation(cell.test.images.gather(torch.arange(len(cell.test.images))))
    expected = reference_odin(cell.training.network, inputs, normalisation.std)
    np.testing.assert_allclose(cell.scores.odin, expected, atol=1e-5)


@pytest.mark.parametrize(("side", "expected"), [(8, 256), (32, 256), (96, 56), (256, 8), (1024, 1)])
def test_batches_of_large_images_are_smaller(side: int, expected: int) -> None:
    images = ImageTable.from_arrays("test", {"a": np.zeros((2, side, side, 1), np.uint8)})
    assert _batch_size(images) == expected


def test_reported_metrics_are_those_of_the_scores(trained: CellRun) -> None:
    scores = trained.scores
    assert scores is not None
    metrics = scores.metrics()
    assert metrics["ap/msp"] == pytest.approx(
        average_precision_score(scores.is_anomaly, scores.msp), abs=1e-12
    )
    kept = scores.label >= 0
    assert metrics["test/accuracy"] == (scores.logits[kept].argmax(1) == scores.label[kept]).mean()
    assert trained.result()["final/skew"] == pytest.approx((~kept).mean())
    assert sorted(scores.index) == sorted(set(scores.index))

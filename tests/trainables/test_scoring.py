"""The scoring pass: what it hands to detectors and what it costs, and what becomes of detectors that fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from search_spaces import find_benchmark
from tests.trainables.detectors.test_odin import definition
from trainables.cell import CellRun
from trainables.data.augment import center_crop
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.detectors import DETECTORS, Detector
from trainables.failures import DetectorFailed
from trainables.networks.wide_resnet import WideResNet
from trainables.run import Run
from trainables.scoring import Scorer, images_per_batch
from trainables.workers import Workers


@pytest.fixture(scope="module")
def trained(digits: Prepared) -> CellRun:
    """A run that scored its test images with every detector."""
    recipe = dataclasses.replace(find_benchmark("digits").recipe, epochs=3, ap_window=2)
    run = Run("digits", "3", "classification", 0, recipe, {}, search=False)
    cell = CellRun(run, digits, detectors=DETECTORS.built_in)
    for _ in cell.epochs():
        pass
    return cell


@pytest.fixture
def bring() -> Iterator[Callable[..., str]]:
    """Bring a detector for one test, made from its score function and attributes; return its name."""
    brought: list[str] = []

    def make(score: Callable, **attributes: object) -> str:
        name = f"brought-{len(brought)}"
        brought.append(name)
        detector = type("Brought", (Detector,), {"name": name, "score": score, **attributes})
        DETECTORS.bring(detector, name)
        return name

    yield make
    for name in brought:
        del DETECTORS._brought[name]


def scored(trained: CellRun, *names: str, fitted: bool = True):
    """Score the test images of a run that is done with these detectors."""
    training = trained.training
    scorer = Scorer(names, trained.run.recipe, training.normalisation, Workers())
    assert trained.test is not None
    return scorer.score(training.network, trained.test, training.part if fitted else None)


def test_odin_is_the_formula_and_makes_no_false_ties(trained: CellRun) -> None:
    assert trained.test is not None
    assert trained.scores is not None
    normalisation = trained.training.normalisation
    inputs = normalisation(trained.test.images.gather(torch.arange(len(trained.test.images))))
    network = trained.training.network
    expected = definition(network.eval(), inputs, normalisation.std)
    network.float()
    np.testing.assert_allclose(trained.scores.by_detector["odin"], expected, atol=1e-6)
    assert len(np.unique(trained.scores.by_detector["odin"])) == len(np.unique(trained.scores.logits, axis=0))
    ranks = np.argsort(np.argsort(trained.scores.by_detector["odin"]))
    assert np.corrcoef(ranks, np.argsort(np.argsort(expected)))[0, 1] > 0.9999


def test_other_images_are_scored_as_test_images_are_without_fitting_again(trained: CellRun) -> None:
    assert trained.test is not None
    assert trained.scores is not None
    beside = trained.scorer.score_beside(trained.training.network, trained.test.images)
    assert beside.is_anomaly.all()
    assert np.array_equal(beside.logits, trained.scores.logits)
    assert list(beside.by_detector) == list(DETECTORS.built_in)
    for name, scores in trained.scores.by_detector.items():
        assert np.array_equal(beside.by_detector[name], scores), name


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
    expected = definition(cell.training.network.eval(), inputs, normalisation.std)
    np.testing.assert_allclose(cell.scores.by_detector["odin"], expected, atol=1e-5)


def test_evaluations_keep_the_memory_layout_of_training(digits: Prepared, quick_run: Callable) -> None:
    """With another one the network would round otherwise than it was trained."""
    seen: dict[bool, set] = {True: set(), False: set()}
    for search in (False, True):
        cell = CellRun(quick_run(search=search, epochs=1, width=2, train_fraction=0.1), digits)
        block = cell.training.network.groups[0][0]
        block.conv1.register_forward_hook(
            lambda module, inputs, output: seen[module.training].add(
                tuple(
                    each.is_contiguous(memory_format=torch.channels_last) for each in (*inputs, module.weight)
                )
            )
        )
        for _ in cell.epochs():
            pass
    assert seen == {True: {(True, True)}, False: {(True, True)}}


@pytest.mark.parametrize(("side", "expected"), [(8, 256), (32, 256), (96, 56), (256, 8), (1024, 1)])
def test_batches_of_large_images_are_smaller(side: int, expected: int) -> None:
    images = ImageTable.from_arrays("test", {"a": np.zeros((2, side, side, 1), np.uint8)})
    assert images_per_batch(images) == expected


def test_reported_metrics_are_those_of_the_scores(trained: CellRun) -> None:
    scores, result = trained.scores, trained.result()
    assert scores is not None
    assert list(scores.by_detector) == list(DETECTORS.built_in)
    metrics, anomalies = scores.metrics(), scores.is_anomaly
    for name, values in scores.by_detector.items():
        expected = average_precision_score(anomalies, values)
        assert metrics[f"ap/{name}"] == pytest.approx(expected, abs=1e-12)
        assert result[f"final/ap_{name}_last"] == metrics[f"ap/{name}"]
        assert result[f"final/auroc_{name}"] == pytest.approx(roc_auc_score(anomalies, values), abs=1e-12)
    kept = scores.label >= 0
    assert metrics["test/accuracy"] == (scores.logits[kept].argmax(1) == scores.label[kept]).mean()
    assert result["final/skew"] == pytest.approx((~kept).mean())
    assert sorted(scores.index) == sorted(set(scores.index))


def test_detectors_on_features_take_part_in_the_last_evaluation_only(trained: CellRun) -> None:
    on_features = {name for name in DETECTORS.built_in if DETECTORS.find(name).needs == "features"}
    assert on_features
    for epoch, row in enumerate(trained.history, start=1):
        evaluated = {name.removeprefix("ap/") for name in row if name.startswith("ap/")}
        everywhere = set(DETECTORS.built_in) - on_features
        assert evaluated == {1: set(), 2: everywhere, 3: {*everywhere, *on_features}}[epoch]
    result = trained.result()
    for name in DETECTORS.built_in:
        assert (f"final/ap_{name}" in result) == (name not in on_features)
        if name not in on_features:
            mean = (trained.history[1][f"ap/{name}"] + trained.history[2][f"ap/{name}"]) / 2
            assert result[f"final/ap_{name}"] == pytest.approx(mean, abs=1e-15)


def test_other_detectors_change_no_score(trained: CellRun) -> None:
    assert trained.scores is not None
    for names in (["msp"], ["odin", "msp"], ["vim", "energy"]):
        again = scored(trained, *names)
        np.testing.assert_array_equal(again.logits, trained.scores.logits)
        assert list(again.by_detector) == names
        for name in names:
            np.testing.assert_array_equal(again.by_detector[name], trained.scores.by_detector[name])


class Passes:
    """Counts a network's images, forward and with a gradient for the input."""

    def __init__(self, network: WideResNet) -> None:
        self.forward = self.backward = 0
        self._hook = network.stem.register_forward_hook(self._count)

    def _count(self, module: object, inputs: tuple[Tensor], output: Tensor) -> None:
        self.forward += len(output)
        if inputs[0].requires_grad:
            inputs[0].register_hook(self._count_gradient)

    def _count_gradient(self, gradient: Tensor) -> None:
        self.backward += len(gradient)

    def close(self) -> None:
        self._hook.remove()


@pytest.mark.parametrize(
    ("names", "forward", "backward", "training"),
    [
        (("msp",), 1, 0, 0),
        (("msp", "odin"), 2, 1, 0),
        (DETECTORS.built_in, 2, 1, 1),
        (("knn", "vim"), 1, 0, 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_passes_are_counted(
    trained: CellRun, names: tuple[str, ...], forward: int, backward: int, training: int
) -> None:
    counted = Passes(trained.training.network)
    scored(trained, *names)
    counted.close()
    assert trained.test is not None
    tested, trained_on = len(trained.test.images), len(trained.training.part)
    assert counted.forward == forward * tested + training * trained_on
    assert counted.backward == backward * tested


def test_several_detectors_can_each_take_a_gradient(trained: CellRun, bring: Callable[..., str]) -> None:
    def score(self: Detector, network: WideResNet, inputs: Tensor, logits: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), inputs)
        return gradient.abs().sum((1, 2, 3))

    first, second = (bring(score, needs="network", gradients=True) for _ in range(2))
    found = scored(trained, first, "odin", second).by_detector
    np.testing.assert_array_equal(found[first], found[second])
    assert trained.scores is not None
    np.testing.assert_array_equal(found["odin"], trained.scores.by_detector["odin"])


def test_a_detector_is_given_what_the_contract_says(trained: CellRun, bring: Callable[..., str]) -> None:
    seen: dict[str, tuple] = {}

    def on_logits(self: Detector, logits: Tensor) -> Tensor:
        seen["logits"] = (logits,)
        return -logits[:, 0]

    def fit(self: Detector, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        seen["fit"] = (features, logits, labels)

    def on_features(self: Detector, features: Tensor, logits: Tensor) -> Tensor:
        seen["features"] = (features, logits)
        return features[:, 0]

    def on_network(self: Detector, network: WideResNet, inputs: Tensor, logits: Tensor) -> Tensor:
        assert not network.training
        assert not torch.is_grad_enabled()
        assert not logits.requires_grad
        seen.setdefault("network", (inputs, logits, self.recipe, self.normalisation))
        return logits[:, 0]

    names = [
        bring(on_logits, needs="logits"),
        bring(on_features, needs="features", fit=fit),
        bring(on_network, needs="network"),
    ]
    scored(trained, *names)
    training, test = trained.training, trained.test
    assert test is not None
    n, classes = len(test.images), len(trained.data.classes)
    assert seen["logits"][0].dtype == torch.float64
    assert seen["logits"][0].shape == (n, classes)
    features, logits, labels = seen["fit"]
    width = training.network.features
    assert [(v.dtype, tuple(v.shape)) for v in (features, logits, labels)] == [
        (torch.float32, (len(training.part), width)),
        (torch.float32, (len(training.part), classes)),
        (torch.int64, (len(training.part),)),
    ]
    network = training.network.eval()
    images = training.part.images.gather(training.part.rows[:50])
    with torch.no_grad():
        inputs = training.normalisation(center_crop(images, trained.run.recipe.image_size))
        torch.testing.assert_close(features[:50], network.embed(inputs), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits[:50], network(inputs), atol=1e-5, rtol=1e-5)
    assert torch.equal(labels, training.part.labels)
    assert [tuple(v.shape) for v in seen["features"]] == [(n, width), (n, classes)]
    inputs, _, recipe, normalisation = seen["network"]
    assert inputs.shape == (256, 1, 8, 8)
    assert recipe == trained.run.recipe
    assert normalisation.mean.item() == training.normalisation.mean.item()


def _nothing_of_it(self: Detector, logits: Tensor) -> Tensor:
    return logits


def _nan(self: Detector, logits: Tensor) -> Tensor:
    return torch.where(torch.arange(len(logits)) < 3, torch.nan, 1.0)


def _nothing(self: Detector, logits: Tensor) -> None:
    return None


def _broken(self: Detector, logits: Tensor) -> Tensor:
    raise KeyError("temperature")


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (_nothing_of_it, r"returned a tensor of shape \(719, 9\) for 719 images"),
        (_nan, "gave nan for 3 of 719 images"),
        (_nothing, "returned NoneType for 719 images"),
        (_broken, "failed: KeyError: 'temperature'"),
    ],
)
def test_a_detector_that_fails_is_named(
    trained: CellRun, bring: Callable[..., str], score: Callable, says: str
) -> None:
    name = bring(score, needs="logits")
    with pytest.raises(DetectorFailed, match=f"the detector {name} {says}"):
        scored(trained, "msp", name)


def test_a_failure_on_the_network_is_told_once_the_pass_is_over(
    trained: CellRun, bring: Callable[..., str]
) -> None:
    calls = []

    def score(self: Detector, network: WideResNet, inputs: Tensor, logits: Tensor) -> Tensor:
        calls.append(len(inputs))
        raise RuntimeError("out of ideas")

    name = bring(score, needs="network")
    counted = Passes(trained.training.network)
    with pytest.raises(DetectorFailed, match="out of ideas"):
        scored(trained, name)
    counted.close()
    assert trained.test is not None
    assert counted.forward == len(trained.test.images)  # other workers, if any, are not left waiting
    assert len(calls) == 1


def test_memory_that_runs_out_is_no_fault_of_the_detector(
    trained: CellRun, bring: Callable[..., str]
) -> None:
    def score(self: Detector, logits: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        scored(trained, bring(score, needs="logits"))


def test_logits_that_are_not_finite_are_given_to_no_detector(
    trained: CellRun, bring: Callable[..., str]
) -> None:
    def score(self: Detector, logits: Tensor) -> Tensor:
        raise AssertionError("asked")

    name, bias = bring(score, needs="logits"), trained.training.network.classifier.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias[0] = torch.inf
    found = scored(trained, name, "odin")
    with torch.no_grad():
        bias.copy_(before)
    assert not found.finite
    assert found.by_detector == {}


def test_scoring_leaves_the_network_as_it_was(trained: CellRun) -> None:
    network = trained.training.network
    network.train()
    network.zero_grad(set_to_none=True)
    network.stem.weight.requires_grad_(False)
    scored(trained, *DETECTORS.built_in)
    assert network.training
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    network.stem.weight.requires_grad_(True)
    assert all(p.grad is None for p in network.parameters())


def test_what_a_detector_does_to_its_tensors_is_its_own_affair(
    trained: CellRun, bring: Callable[..., str]
) -> None:
    def on_network(self: Detector, network: WideResNet, inputs: Tensor, logits: Tensor) -> Tensor:
        inputs.zero_()
        return logits.zero_()[:, 0]

    def fit(self: Detector, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        for values in (features, logits, labels):
            values.zero_()

    def on_features(self: Detector, features: Tensor, logits: Tensor) -> Tensor:
        logits.zero_()
        return features.zero_()[:, 0]

    first = bring(on_network, needs="network")
    second = bring(on_features, needs="features", fit=fit)
    found = scored(trained, first, second, *DETECTORS.built_in)
    assert trained.scores is not None
    np.testing.assert_array_equal(found.logits, trained.scores.logits)
    for name, scores in trained.scores.by_detector.items():
        np.testing.assert_array_equal(found.by_detector[name], scores, err_msg=name)


def test_a_detector_that_changes_the_network_fails_and_leaves_it_as_it_was(
    trained: CellRun, bring: Callable[..., str]
) -> None:
    def score(self: Detector, network: WideResNet, inputs: Tensor, logits: Tensor) -> Tensor:
        network.train()
        return network(inputs * 5)[:, 0]

    before = {name: value.clone() for name, value in trained.training.network.state_dict().items()}
    name = bring(score, needs="network")
    with pytest.raises(DetectorFailed, match=f"{name} changed the network"):
        scored(trained, "msp", name)
    for key, value in trained.training.network.state_dict().items():
        assert torch.equal(value, before[key]), key

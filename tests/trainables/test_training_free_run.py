"""Runs of methods that train nothing: their data, their values, and numpy's numbers for digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.images import folder_request, write_folder
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared
from trainables.training_free_run import TrainingFreeRun


def minus_log_density(fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Return the scores of flat grey images by numpy: (n, d) to (n,)."""
    x, y = fitted / 255, scored / 255
    covariance = np.cov(x, rowvar=False, bias=True) + np.eye(x.shape[1]) / 256**2 / 12
    centred = y - x.mean(0)
    squares = (centred * np.linalg.solve(covariance, centred.T).T).sum(1)
    return (squares + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def flat(data: Prepared, split: str, classes: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([chunk.flatten(1).numpy() for chunk in data.open(split, classes).chunks])


@pytest.mark.parametrize("holdout", ["0", "3", "8"])
def test_pixel_gaussians_of_digits_are_those_of_numpy(
    digits: Prepared, quick_run: Callable, holdout: str
) -> None:
    running = TrainingFreeRun(quick_run("pixel-gaussian", holdout=holdout), digits)
    running.score()
    kept = tuple(name for name in digits.classes if name != holdout)
    expected = minus_log_density(flat(digits, "train", kept), flat(digits, "test", digits.classes))
    np.testing.assert_allclose(running.scores, expected, rtol=1e-9)
    is_anomaly = np.repeat([name == holdout for name in digits.classes], digits.counts["test"])
    assert np.array_equal(running.label == -1, is_anomaly)
    values = running.result()
    ap, auc = average_precision_score(is_anomaly, expected), roc_auc_score(is_anomaly, expected)
    assert values["final/ap_pixel-gaussian"] == pytest.approx(ap, abs=1e-12)
    assert values["final/auroc_pixel-gaussian"] == pytest.approx(auc, abs=1e-12)
    assert values["final/skew"] == pytest.approx(is_anomaly.mean())


def test_it_opens_what_a_final_run_opens(digits: Prepared, quick_run: Callable) -> None:
    opened = TrainingFreeRun(quick_run("edge-energy", holdout="3"), digits).close_access_log()
    assert [(entry["split"], "".join(entry["classes"])) for entry in opened] == [
        ("train", "012456789"),
        ("test", "0123456789"),
    ]


def test_without_a_held_out_class_there_is_no_ap(digits: Prepared, quick_run: Callable) -> None:
    running = TrainingFreeRun(quick_run("pixel-gaussian", holdout="none"), digits)
    running.score()
    assert running.result() == {"epochs": 0}


def test_only_the_used_share_of_the_training_images_is_fitted(digits: Prepared, quick_run: Callable) -> None:
    run = quick_run("pixel-gaussian", holdout="3")
    half = TrainingFreeRun(replace(run, recipe=replace(run.recipe, train_fraction=0.5)), digits)
    half.score()
    fitted = np.concatenate([half._training.images.gather(half._training.rows).flatten(1).numpy()])
    assert 0.49 * sum(digits.counts["train"]) * 0.9 < len(fitted) < 0.51 * sum(digits.counts["train"])
    expected = minus_log_density(fitted, flat(digits, "test", digits.classes))
    np.testing.assert_allclose(half.scores, expected, rtol=1e-9)


def test_images_are_cropped_to_the_network_s_input(tmp_path, quick_run: Callable) -> None:
    few = {"one": 6, "two": 6, "three": 6}
    write_folder(tmp_path / "data", {"train": few, "test": few}, side=12)
    prepared = prepare(folder_request(tmp_path / "data", tmp_path / "cache", side=12))
    run = quick_run("edge-energy", holdout="two")
    running = TrainingFreeRun(run, prepared)
    running.score()
    centre = [chunk[:, 2:10, 2:10] for chunk in prepared.open("test").chunks]
    assert np.array_equal(running.scores, type(running._method)().score(centre))

"""Scores of a finished run by detectors that come later, against those of the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.cell import CellRun
from trainables.data.prepared import Prepared
from trainables.failures import DetectorFailed
from trainables.kept_weights import Trained, from_bytes
from trainables.rescoring import LaterScores, NotReproduced, score_logits, score_network
from trainables.scoring import Scores

CPU = torch.device("cpu")
NAMES = ("energy", "knn", "odin")


@pytest.fixture(scope="module")
def finished() -> dict[str, CellRun]:
    return {}


@pytest.fixture
def run(finished: dict[str, CellRun], digits: Prepared, quick_run: Callable) -> CellRun:
    """A run with its own scores of the detectors, trained once."""
    if not finished:
        running = CellRun(quick_run(epochs=3, ap_window=2), digits, detectors=NAMES)
        list(running.epochs())
        finished["run"] = running
    return finished["run"]


def kept(run: CellRun) -> Trained:
    return from_bytes(run.weights(), run.run.recipe, 1)


def last_of(run: CellRun) -> Scores:
    assert run.scores is not None
    return replace(run.scores, by_detector={})


def of_network(run: CellRun, digits: Prepared, *names: str, last: Scores | None = None) -> dict:
    return score_network(names, run.run, kept(run), digits, last or last_of(run), CPU).by_detector


def test_kept_logits_and_weights_give_the_run_s_own_scores_and_values(run: CellRun, digits: Prepared) -> None:
    normalisation = kept(run).normalisation
    found = of_network(run, digits, "knn", "odin")
    found["energy"] = score_logits("energy", run.run.recipe, normalisation, last_of(run), run.window)
    assert run.scores is not None
    for name in NAMES:
        assert np.array_equal(found[name].scores, run.scores.by_detector[name])
        own = {key: value for key, value in run.result().items() if name in key}
        if name == "odin":
            del own["final/ap_odin"]
        assert found[name].metrics == own
    assert {epoch: row["ap/energy"] for epoch, row in zip((2, 3), run.history[1:], strict=True)} == (
        found["energy"].by_epoch
    )
    assert found["energy"].windowed
    assert not found["odin"].windowed


def test_a_window_with_a_gap_gives_no_mean(run: CellRun) -> None:
    found = score_logits("energy", run.run.recipe, None, last_of(run), {1: run.window[2]})
    assert not found.windowed
    assert "final/ap_energy" not in found.metrics
    assert set(found.by_epoch) == {3}


def test_only_what_a_detector_needs_is_opened(run: CellRun, digits: Prepared) -> None:
    def opened(*names: str) -> dict[object, object]:
        found = score_network(names, run.run, kept(run), digits, last_of(run), CPU)
        return {entry["split"]: entry["classes"] for entry in found.opened}

    assert opened("odin") == {"test": list(digits.classes)}
    assert opened("odin", "knn")["train"] == [name for name in digits.classes if name != "3"]


def test_a_network_that_gives_other_logits_is_refused(run: CellRun, digits: Prepared) -> None:
    last = last_of(run)
    rounded = replace(last, logits=last.logits * np.float32(1 + 1e-4))
    assert isinstance(of_network(run, digits, "odin", last=rounded)["odin"], LaterScores)
    with pytest.raises(NotReproduced, match="its logits differ by up to"):
        of_network(run, digits, "odin", last=replace(last, logits=last.logits + np.float32(1)))
    with pytest.raises(NotReproduced, match="are not those that were scored"):
        of_network(run, digits, "odin", last=replace(last, index=last.index[::-1].copy()))


def test_a_detector_that_fails_leaves_the_others_of_its_pass(
    run: CellRun, digits: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    expected = of_network(run, digits, "odin")["odin"]
    monkeypatch.setattr("trainables.detectors.knn.KNN.fit", fail)
    found = of_network(run, digits, "knn", "odin")
    assert isinstance(found["knn"], DetectorFailed)
    assert "the detector knn failed: ZeroDivisionError: by zero" in str(found["knn"])
    assert np.array_equal(found["odin"].scores, expected.scores)


def test_without_a_held_out_class_there_are_scores_and_no_metrics(
    digits: Prepared, quick_run: Callable
) -> None:
    running = CellRun(quick_run(holdout="none", epochs=1), digits, detectors=("msp",))
    list(running.epochs())
    found = score_logits("energy", running.run.recipe, None, last_of(running), {})
    assert found.scores.shape == (719,)
    assert (found.metrics, found.by_epoch) == ({}, {})

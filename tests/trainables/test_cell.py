"""A run from its data to its result: its access log, its values, and runs with CPC."""

from __future__ import annotations

import copy
import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from orchestrator.planning.cells import FINAL, SEARCH, Cell
from orchestrator.reporting.leak_check import Verdict, check_leaks
from tests.images import folder_request, noise
from tests.trainables.auxiliary.test_cpc import photographs
from trainables import cell
from trainables.cell import CellRun
from trainables.data.access_log import AccessLog
from trainables.data.cache import prepare
from trainables.data.holdout import SearchData, open_search
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.recipe import Recipe
from trainables.run import Run

KEPT = tuple("012456789")


def entry(digits: Prepared, split: str, classes: tuple[str, ...]) -> dict[str, Any]:
    table = digits.open(split, classes)
    return {"split": split, "classes": list(classes), "count": len(table), "digest": table.digest}


def verdict(running: CellRun) -> Verdict:
    phase, index = (SEARCH, 0) if running.run.search else (FINAL, None)
    one = Cell("k", phase, running.run.holdout, running.run.method, 0, index)
    return check_leaks([one], {"k": {"opened": running.close_access_log()}}, set())


def test_a_search_run_opens_kept_training_images_and_a_final_run_test_images_too(
    digits: Prepared, quick_run: Callable
) -> None:
    final, search = (CellRun(quick_run(search=search), digits) for search in (False, True))
    trained = entry(digits, "train", KEPT)
    assert json.dumps(search.close_access_log()) == json.dumps([trained])
    assert json.dumps(final.close_access_log()) == json.dumps(
        [trained, entry(digits, "test", digits.classes)]
    )
    assert verdict(search).holds
    assert verdict(final).holds


@pytest.mark.parametrize("statistics", ["primary", "recalibrated"])
def test_when_a_search_run_is_validated_does_not_change_what_is_found(
    digits: Prepared, quick_run: Callable, statistics: str
) -> None:
    histories = {}
    for every in (0, 1, 2):
        run = quick_run(search=True, epochs=3, evaluate_every=every, batch_norm_statistics=statistics)
        running = CellRun(run, digits)
        list(running.epochs())
        found = {int(row["epoch"]): row["val/accuracy"] for row in running.history if "val/accuracy" in row}
        histories[every] = found, [row["train/loss"] for row in running.history], running.result()["value"]
    assert [list(found) for found, _, _ in histories.values()] == [[3], [1, 2, 3], [2, 3]]
    assert len({(str(losses), value) for _, losses, value in histories.values()}) == 1
    for found, _, value in histories.values():
        assert found.items() <= histories[1][0].items()
        assert value == found[3]


@pytest.mark.parametrize(
    ("split", "classes", "words"),
    [
        ("test", None, "opened the split 'test'"),
        ("test", ("0",), "opened the split 'test'"),
        ("train", ("3",), "opened its held-out class '3'"),
    ],
)
def test_the_log_shows_a_loader_that_opens_more_for_a_search(
    digits: Prepared,
    quick_run: Callable,
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    classes: tuple[str, ...] | None,
    words: str,
) -> None:
    def greedy(prepared: Prepared, run: Run) -> SearchData:
        prepared.open(split, classes)
        return open_search(prepared, run)

    monkeypatch.setattr(cell, "open_search", greedy)
    running = CellRun(quick_run(search=True), digits)
    assert running.close_access_log() == [
        entry(digits, split, classes or digits.classes),
        entry(digits, "train", KEPT),
    ]
    assert not verdict(running).holds
    assert words in verdict(running).sentence


@pytest.mark.parametrize("holdout", ["3", "none"])
def test_image_sets_are_opened_and_scored_by_final_runs_alone_after_the_last_epoch(
    digits: Prepared, quick_run: Callable, holdout: str
) -> None:
    table = ImageTable.from_arrays(
        "ood/mine", {"mine": np.stack([noise(seed, 8, 1)[..., None] for seed in range(20)])}
    )
    run = quick_run(holdout=holdout, train_fraction=0.3)
    running, alone = CellRun(run, digits, image_sets=[table]), CellRun(run, digits)
    assert verdict(running).holds
    for each in (running, alone):
        assert len(list(each.epochs())) == 2
    values, without = running.result(), alone.result()
    assert without.items() <= values.items()
    assert running.scores is not None
    kept = running.scores.label != -1
    assert set(values) - set(without) == {
        "ood/mine/skew",
        *(f"ood/mine/{metric}_{name}" for metric in ("ap", "auroc", "fpr95") for name in ("msp", "odin")),
    }
    for name in ("msp", "odin"):
        both = np.concatenate(
            [running.scores.by_detector[name][kept], running.scores_beside["mine"].by_detector[name]]
        )
        label = np.repeat([0, 1], [kept.sum(), 20])
        assert values[f"ood/mine/ap_{name}"] == pytest.approx(average_precision_score(label, both))
    with pytest.raises(ValueError, match="search run scores nothing"):
        CellRun(quick_run(search=True), digits, image_sets=[table])


def test_a_log_holds_each_table_once_and_is_complete_when_closed(digits: Prepared) -> None:
    log = AccessLog()
    watched = digits.with_access_log(log)
    for _ in range(3):
        watched.open("train", ("1", "2"))
    watched.open("train", ("2",))
    entries = log.close()
    assert entries == [entry(digits, "train", ("1", "2")), entry(digits, "train", ("2",))]
    watched.open("train", ("2", "1"))
    with pytest.raises(RuntimeError, match="test images of 1 were opened after the access log was closed"):
        watched.open("test", ("1",))
    assert log.close() == entries
    digits.open("test", ("1",))  # without a log


@pytest.mark.parametrize("holdout", ["3", "none"])
def test_a_result_has_the_windowed_accuracy_and_the_last_epoch_s(
    digits: Prepared, quick_run: Callable, holdout: str
) -> None:
    running = CellRun(quick_run(epochs=3, ap_window=2, holdout=holdout, train_fraction=0.3), digits)
    first, second, third = (row.get("test/accuracy") for row in running.epochs())
    values = running.result()
    assert first is None
    assert values["final/test_accuracy"] == third
    assert values["final/test_accuracy_window"] == pytest.approx((second + third) / 2, abs=1e-15)


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare three classes of 8 training and 2 test images, of a size that CPC can divide into patches."""
    root = tmp_path_factory.mktemp("patched")
    for number, piece in enumerate(photographs(30, 56).numpy()):
        folder = root / "images" / ("train" if number < 24 else "test") / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(piece).save(folder / f"{number:02d}.png")
    return prepare(folder_request(root / "images", root / "cache", side=56))


def cpc_run(method: str, **changes: Any) -> Run:
    recipe = Recipe(
        depth=10,
        image_size=56,
        padding="symmetric",
        stem_stride=2,
        dropout=0.1,
        epochs=2,
        batch_size=8,
        cpc_batch_size=4,
        cpc_channels=16,
        ap_window=2,
    )
    weights = {task: {"rotation": 0.5, "cpc": 2.0}[task] for task in method.split("+")}
    return Run("image-folder", "c", method, 0, replace(recipe, **changes), weights, search=False)


def assert_equal(one: Any, other: Any) -> None:
    """Compare bit for bit, inside dictionaries and lists of tensors."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if not str(key).startswith("speed/"):
                assert_equal(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


@pytest.mark.parametrize("method", ["cpc", "rotation+cpc"])
def test_a_cpc_run_resumed_after_an_epoch_equals_an_uninterrupted_one(patched: Prepared, method: str) -> None:
    torch.set_num_threads(1)
    whole, stopped, resumed = (CellRun(cpc_run(method), patched) for _ in range(3))
    assert len(list(whole.epochs())) == 2
    next(stopped.epochs())
    snapshot = stopped.snapshot()
    torch.rand(17)  # other use of the process must not matter
    resumed.restore(snapshot)
    assert [row["epoch"] for row in resumed.epochs()] == [2]
    assert_equal(resumed.training.state(), whole.training.state())
    assert_equal(resumed.history, whole.history)
    assert_equal(resumed.result(), whole.result())
    for name in ("logits", "label", "index"):
        assert (getattr(resumed.scores, name) == getattr(whole.scores, name)).all()
    for name, scores in whole.scores.by_detector.items():
        assert (resumed.scores.by_detector[name] == scores).all()
    for task in method.split("+"):
        assert all(row[f"aux/{task}_loss"] > 0 for row in whole.history)
        assert whole.training.optimisers[task].state
    assert {"final/test_accuracy", "final/ap_msp", "final/ap_odin"} <= whole.result().keys()


def test_cpc_has_no_l2_and_norms_of_its_own(patched: Prepared) -> None:
    training = CellRun(cpc_run("rotation+cpc", weight_decay=0.01), patched).training
    penalties = {name: each.param_groups[0]["weight_decay"] for name, each in training.optimisers.items()}
    assert penalties == {"classification": 0.01, "rotation": 0.01, "cpc": 0}
    norms = [name for name in training.network.state_dict() if ".by_task." in name]
    assert {name.split(".by_task.")[1].split(".")[0] for name in norms} == {"classification", "cpc"}


def test_each_of_two_weights_scales_its_own_task_s_steps(patched: Prepared) -> None:
    torch.set_num_threads(1)
    run = cpc_run("rotation+cpc", epochs=1, weight_decay=0.0)
    for silent, loud in (("rotation", "cpc"), ("cpc", "rotation")):
        running = CellRun(replace(run, aux_weights={silent: 0.0, loud: 1.0}), patched)
        before = {
            name: [p.detach().clone() for p in head.parameters()]
            for name, head in running.training.heads.items()
        }
        running.training.train_epoch()
        for name, head in running.training.heads.items():
            pairs = zip(before[name], head.parameters(), strict=True)
            assert all(torch.equal(*pair) for pair in pairs) == (name == silent)


def test_detectors_that_come_after_a_checkpoint_have_the_window_of_those_on_logits(
    digits: Prepared, quick_run: Callable
) -> None:
    run = quick_run(epochs=3, ap_window=2)
    whole = CellRun(run, digits, detectors=("msp", "energy", "odin"))
    stopped = CellRun(run, digits, detectors=("msp",))
    for _ in whole.epochs():
        pass
    epochs = stopped.epochs()
    next(epochs)
    next(epochs)
    resumed = CellRun(run, digits, detectors=("msp", "energy", "odin"))
    resumed.restore(stopped.snapshot())
    for _ in resumed.epochs():
        pass
    expected, found = whole.result(), resumed.result()
    assert found.pop("final/ap_odin", None) is None  # its gradient of the second epoch is gone
    assert expected.pop("final/ap_odin") > 0
    assert found == expected


def test_detectors_on_features_are_of_the_last_evaluation_even_if_it_is_the_window(
    digits: Prepared, quick_run: Callable
) -> None:
    cell = CellRun(quick_run(epochs=1, ap_window=1), digits, detectors=("msp", "knn"))
    for _ in cell.epochs():
        pass
    assert {name for name in cell.result() if "ap_" in name} == {
        "final/ap_msp",
        "final/ap_msp_last",
        "final/ap_knn_last",
    }


def flipped(data: bytes, part: float) -> bytes:
    """Return bytes of which one, this part of the way through, has another lowest bit."""
    changed = bytearray(data)
    changed[int(part * len(data))] ^= 1
    return bytes(changed)


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "foreign": lambda data: b"PK" + bytes(1000),
    **{f"flipped at {part}": functools.partial(flipped, part=part) for part in (0.3, 0.5, 0.7)},
    "without a history": lambda data: saved({**torch.load(io.BytesIO(data)), "history": 3}),
    "with code": lambda data: saved({**torch.load(io.BytesIO(data)), "window": {1: Path("x")}}),
}


def saved(values: object) -> bytes:
    sink = io.BytesIO()
    torch.save(values, sink)
    return sink.getvalue()


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_snapshot_is_refused_and_changes_nothing(
    digits: Prepared, quick_run: Callable, how: str
) -> None:
    stopped, resumed = (CellRun(quick_run(), digits) for _ in range(2))
    next(stopped.epochs())
    before = copy.deepcopy(resumed.training.state())
    with pytest.raises((zipfile.BadZipFile, pickle.UnpicklingError, TypeError)):
        resumed.restore(SPOILT[how](stopped.snapshot()))
    assert_equal(resumed.training.state(), before)
    assert (resumed.history, resumed.window) == ([], {})

"""Score the targets of a baseline and write the scores into its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch

from orchestrator.baselines.targets import HOLDOUT, Baseline, Target
from orchestrator.cli.baseline_options import PIXEL_GAUSSIAN
from orchestrator.ledger.ledger import Ledger
from trainables.data.holdout import ANOMALY, kept_classes
from trainables.data.image_sets import ImageSet
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.metrics import average_precision
from trainables.training_free import edge_energy, pixel_gaussian, pixel_gaussian_by_holdout


def score_targets(
    baseline: Baseline,
    missing: Sequence[Target],
    prepared: Prepared,
    sets: Mapping[str, ImageSet],
    ledger: Ledger,
    report_progress: Callable[[str], None],
) -> None:
    """Score the missing targets and write their results; `sets` holds the image sets by name.

    `report_progress` is called with what is being done.
    """
    began = time.monotonic()
    test = prepared.open("test")
    names = [target.name for target in missing]
    if baseline.setting == HOLDOUT:
        found = _by_holdout(baseline, names, prepared, test, report_progress)
    else:
        found = _beside_sets(baseline, [sets[name] for name in names], prepared, test, report_progress)
    for target in missing:
        _write(target, found[target.name], ledger, time.monotonic() - began)


def _by_holdout(
    baseline: Baseline,
    holdouts: Sequence[str],
    prepared: Prepared,
    test: ImageTable,
    report_progress: Callable[[str], None],
) -> dict[str, pa.Table]:
    if baseline.method == PIXEL_GAUSSIAN:
        scores = pixel_gaussian_by_holdout(prepared.open("train"), test, holdouts, report_progress)
    else:
        scores = dict.fromkeys(holdouts, edge_energy(test.chunks))
    return {
        holdout: _table(test.indices.numpy(), _labels(test, kept_classes(test.classes, holdout)), found)
        for holdout, found in scores.items()
    }


def _beside_sets(
    baseline: Baseline,
    sets: Sequence[ImageSet],
    prepared: Prepared,
    test: ImageTable,
    report_progress: Callable[[str], None],
) -> dict[str, pa.Table]:
    images = [test.chunks, *([torch.from_numpy(each.pixels)] for each in sets)]
    if baseline.method == PIXEL_GAUSSIAN:
        normal, *others = pixel_gaussian(prepared.open("train"), images, report_progress)
    else:
        normal, *others = map(edge_energy, images)
    tables = {}
    for each, found in zip(sets, others, strict=True):
        index = np.concatenate([test.indices.numpy(), np.arange(len(found))])
        label = np.concatenate([_labels(test, test.classes), np.full(len(found), ANOMALY)])
        tables[each.name] = _table(index, label, np.concatenate([normal, found]))
    return tables


def _labels(test: ImageTable, kept: Sequence[str]) -> np.ndarray:
    """Return each test image's number among the kept classes, int64 (n,); ANOMALY for other classes."""
    numbers = [kept.index(name) if name in kept else ANOMALY for name in test.classes]
    return np.repeat(numbers, test.counts)


def _table(index: np.ndarray, label: np.ndarray, score: np.ndarray) -> pa.Table:
    """Return a table with a row per image; `index` counts within the test split or the image set."""
    return pa.table({"index": index, "label": label, "is_anomaly": label == ANOMALY, "score": score})


def _write(target: Target, table: pa.Table, ledger: Ledger, seconds: float) -> None:
    """Write a target's scores, then its result, whose presence means that the scores are complete."""
    is_anomaly = table["is_anomaly"].to_numpy()
    values = {
        "final/ap": average_precision(table["score"].to_numpy(), is_anomaly),
        "final/skew": float(is_anomaly.mean()),
    }
    about = {"seconds": seconds, "finished_at": time.time()}
    ledger.finish(target.key, 0, {"place": target.name, "values": values}, about, scores=table)

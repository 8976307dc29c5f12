"""How well scores tell anomalies from normal images.

Higher scores are more anomalous, anomalies are the positives, and an image is flagged if it scores at least
a threshold, so that images of equal score are flagged together. Scores are floats (n,), `is_anomaly` is bool
(n,).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def average_precision(scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    """Return the sum over thresholds of precision x gain in recall, without interpolation, ties grouped.

    Raise ValueError if there is no anomaly or a score is NaN.
    """
    positives = int(np.count_nonzero(is_anomaly))
    if positives == 0 or np.isnan(scores).any():
        raise ValueError("average precision needs at least one anomaly and no score that is NaN")
    found, flagged = _by_threshold(scores, is_anomaly)
    return float(np.sum(found / flagged * np.diff(found, prepend=0)) / positives)


def precision_and_recall(scores: np.ndarray, is_anomaly: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall at every distinct score, from the highest on; there must be an anomaly."""
    found, flagged = _by_threshold(scores, is_anomaly)
    return found / flagged, found / found[-1]


def auroc(scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    """Return the area under the ROC curve, trapezoidal.

    It is the probability that an anomaly scores higher than a normal image, where a tie counts half (Hanley &
    McNeil, 1982, Radiology). Raise ValueError without an anomaly or a normal image, or if a score is NaN.
    """
    _check_both("AUROC", scores, is_anomaly)
    found, flagged = _by_threshold(scores, is_anomaly)
    hits, false_alarms = np.diff(found, prepend=0), np.diff(flagged - found, prepend=0)
    twice_won = np.sum(false_alarms * (2 * found - hits))
    return float(twice_won / (2 * found[-1] * (flagged[-1] - found[-1])))


def metrics_beside(
    image_set: str, normal: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return AP, AUROC and FPR at 95% TPR of an image set's scores beside those of normal images.

    Both are given by detector, (m,) and (n,); the set's images are the positives, and "skew" is their share.
    """
    found = {}
    for name, scores in others.items():
        both = np.concatenate([normal[name], scores])
        is_anomaly = np.repeat([False, True], [len(normal[name]), len(scores)])
        found[f"ood/{image_set}/ap_{name}"] = average_precision(both, is_anomaly)
        found[f"ood/{image_set}/auroc_{name}"] = auroc(both, is_anomaly)
        found[f"ood/{image_set}/fpr95_{name}"] = fpr_at_95_tpr(both, is_anomaly)
        found[f"ood/{image_set}/skew"] = float(is_anomaly.mean())
    return found


def fpr_at_95_tpr(scores: np.ndarray, is_anomaly: np.ndarray) -> float:
    """Return the share of normal images flagged at the highest threshold that flags 95% of the anomalies.

    There is no interpolation between thresholds. Papers on out-of-distribution detection often take the
    normal images as positives, and so the share of anomalies that pass when 95% of the normal images do;
    here anomalies are the positives, as for average precision. Raise ValueError without an anomaly or a
    normal image, or if a score is NaN.
    """
    _check_both("FPR at 95% TPR", scores, is_anomaly)
    found, flagged = _by_threshold(scores, is_anomaly)
    enough = np.argmax(20 * found >= 19 * found[-1])  # in integers, so that 19 of 20 are 95%
    return float((flagged - found)[enough] / (flagged - found)[-1])


def _by_threshold(scores: np.ndarray, is_anomaly: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each distinct score from the highest on, how many anomalies and images are flagged."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], is_anomaly[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    return np.cumsum(hits)[last_of_tie], np.flatnonzero(last_of_tie) + 1


def _check_both(metric: str, scores: np.ndarray, is_anomaly: np.ndarray) -> None:
    if not is_anomaly.any() or is_anomaly.all() or np.isnan(scores).any():
        raise ValueError(
            f"{metric} needs at least one anomaly, at least one normal image and no score that is NaN"
        )

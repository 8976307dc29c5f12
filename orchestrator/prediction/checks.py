"""What a sweep knows of a threshold: the share of a held-out class that networks flagged at the same rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from orchestrator.execution.later_scores import LaterScoring
from orchestrator.ledger.later_scores import counted_later
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cell
from trainables.detectors import DETECTORS
from trainables.detectors.contract import LOGITS
from trainables.mistake import Mistake
from trainables.scoring import made, scores_of_logits
from trainables.threshold import find_threshold


@dataclass(frozen=True)
class Caught:
    """Of a held-out class's test images how many were flagged, by networks that never saw the class."""

    holdout: str
    flagged: int
    images: int
    networks: int = 1

    @property
    def share(self) -> float:
        """The share that was flagged."""
        return self.flagged / self.images


def caught(
    cells: Iterable[Cell], detector: str, rate: Fraction, ledger: Ledger, scoring: LaterScoring
) -> tuple[list[Caught], list[Cell]]:
    """Return what finished cells flag of their held-out classes, a row per class, by thresholds of their own.

    The cells that have no scores by the detector are returned, too. Those with too few test images for a
    threshold at this rate are left out.
    """
    found: dict[str, list[Caught]] = {}
    without = []
    for cell in cells:
        scores = recorded_scores(cell, detector, ledger, scoring)
        if scores is None:
            without.append(cell)
            continue
        anomalous = scoring.last(cell).is_anomaly
        try:
            flags = find_threshold(scores[~anomalous], rate).flags(scores[anomalous])
        except Mistake:
            continue
        found.setdefault(cell.holdout, []).append(Caught(cell.holdout, int(flags.sum()), len(flags)))
    return [_together(rows) for rows in found.values()], without


def recorded_scores(cell: Cell, detector: str, ledger: Ledger, scoring: LaterScoring) -> np.ndarray | None:
    """Return a finished cell's scores of its test images, float64 (n,); None if the ledger has none.

    Detectors on logits score what the ledger holds; the scores of others stand in it if they were made.
    """
    result = scoring.results[cell.key]
    if DETECTORS.find(detector).needs == LOGITS:
        logits = torch.from_numpy(scoring.last(cell).logits)
        return scores_of_logits(made(detector, scoring.training_run(cell).recipe, None), logits)
    later = counted_later(result, ledger.read_later(cell.key))
    table = (
        ledger.read_later_scores(cell.key, detector) if detector in later else ledger.read_scores(cell.key)
    )
    return table[detector].to_numpy() if detector in table.column_names else None


def _together(rows: list[Caught]) -> Caught:
    flagged, images = sum(row.flagged for row in rows), sum(row.images for row in rows)
    return Caught(rows[0].holdout, flagged, images, len(rows))

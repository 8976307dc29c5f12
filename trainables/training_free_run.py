"""One run of a method that trains nothing, from its data to its result: cell.py's sibling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from trainables.data.access_log import AccessLog
from trainables.data.augment import center_crop
from trainables.data.holdout import ANOMALY, Part, open_final, open_test
from trainables.data.prepared import Prepared
from trainables.metrics import auroc, average_precision, fpr_at_95_tpr
from trainables.run import NO_HOLDOUT, Run
from trainables.training_free import TRAINING_FREE


class TrainingFreeRun:
    """A final run that fits and scores centre crops of the prepared images, on the CPU."""

    def __init__(self, run: Run, prepared: Prepared) -> None:
        """Open the run's data."""
        self.run = run
        self._access_log = AccessLog()
        prepared = prepared.with_access_log(self._access_log)
        self._training = open_final(prepared, run).training
        self._test = open_test(prepared, run)
        self._method = TRAINING_FREE.find(run.method)()

    def close_access_log(self) -> list[dict[str, object]]:
        """Return what this run opened, for the leak firewall; it can open nothing else afterwards."""
        return self._access_log.close()

    def score(self) -> None:
        """Fit the method to the kept classes' training images, and score the test images."""
        self._method.fit(self._cropped(_used(self._training)))
        self.scores = self._method.score(self._cropped(self._test.images.chunks))

    @property
    def index(self) -> np.ndarray:
        """Each test image's position in the split's original order, int64 (n,)."""
        return self._test.images.indices.numpy()

    @property
    def label(self) -> np.ndarray:
        """Each test image's label, int64 (n,): ANOMALY for the held-out class."""
        return self._test.labels.numpy()

    def result(self) -> dict[str, float]:
        """Return AP, AUROC and FPR at 95% TPR, and the share of anomalies, to which a random AP tends.

        Without a held-out class there is none of them.
        """
        values: dict[str, float] = {"epochs": 0}
        if self.run.holdout == NO_HOLDOUT:
            return values
        is_anomaly = self.label == ANOMALY
        name = self.run.method
        return {
            **values,
            f"final/ap_{name}": average_precision(self.scores, is_anomaly),
            f"final/auroc_{name}": auroc(self.scores, is_anomaly),
            f"final/fpr95_{name}": fpr_at_95_tpr(self.scores, is_anomaly),
            "final/skew": float(is_anomaly.mean()),
        }

    def _cropped(self, chunks: Sequence[Tensor]) -> list[Tensor]:
        return [center_crop(chunk, self.run.recipe.image_size) for chunk in chunks]


def _used(part: Part) -> list[Tensor]:
    """Return the images of a part, mapped where all of them are used."""
    if len(part) == len(part.images):
        return part.images.chunks
    return [part.images.gather(rows) for rows in part.rows.split(max(part.images.counts))]

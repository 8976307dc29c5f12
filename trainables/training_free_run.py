"""One run of a method that trains nothing, from its data to its result: cell.py's sibling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from trainables.data.access_log import AccessLog
from trainables.data.augment import center_crop
from trainables.data.holdout import ANOMALY, Part, open_final, open_test
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.heartbeat import beat
from trainables.metrics import auroc, average_precision, fpr_at_95_tpr, metrics_beside
from trainables.run import NO_HOLDOUT, Run
from trainables.training_free import TRAINING_FREE


class TrainingFreeRun:
    """A final run that fits and scores centre crops of the prepared images, on the CPU."""

    def __init__(self, run: Run, prepared: Prepared, image_sets: Sequence[ImageTable] = ()) -> None:
        """Open the run's data, and the image sets that are scored beside the test images."""
        self.run = run
        self._access_log = AccessLog()
        prepared = prepared.with_access_log(self._access_log)
        self._training = open_final(prepared, run).training
        self._test = open_test(prepared, run)
        self._method = TRAINING_FREE.find(run.method)()
        self._image_sets = image_sets
        for table in image_sets:
            self._access_log.add(table)
        self.scores_beside: dict[str, np.ndarray] = {}
        """The scores of the image sets, float64 (n,), by name."""
        self.scores: np.ndarray | None = None
        """The scores of the test images, float64 (n,), once they are computed."""

    def close_access_log(self) -> list[dict[str, object]]:
        """Return what this run opened, for the leak firewall; it can open nothing else afterwards."""
        return self._access_log.close()

    def score(self) -> None:
        """Fit the method to the kept classes' training images; score the test images and the image sets."""
        beat(f"fitting {self.run.method}")
        self._method.fit(self._cropped(_used(self._training)))
        beat("scoring")
        self.scores = self._method.score(self._cropped(self._test.images.chunks))
        for table in self._image_sets:
            beat("scoring")
            self.scores_beside[table.classes[0]] = self._method.score(self._cropped(table.chunks))

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

        Without a held-out class there is none of them. The same follows for each image set.
        """
        assert self.scores is not None
        name, is_anomaly = self.run.method, self.label == ANOMALY
        beside: dict[str, float] = {"epochs": 0}
        for image_set, scores in self.scores_beside.items():
            beside |= metrics_beside(image_set, {name: self.scores[~is_anomaly]}, {name: scores})
        if self.run.holdout == NO_HOLDOUT:
            return beside
        return {
            **beside,
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

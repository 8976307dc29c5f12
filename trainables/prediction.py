"""What a trained network and a detector say of images that were in no data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trainables.data.holdout import open_test
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.failures import DetectorFailed
from trainables.kept_weights import Trained
from trainables.rescoring import check_reproduced, open_training
from trainables.run import Run
from trainables.scoring import Scorer, Scores
from trainables.workers import Workers


@dataclass(frozen=True)
class Predictions:
    """Of n images the positions of the predicted classes, int64 (n,), and the scores, float64 (n,)."""

    classes: np.ndarray
    scores: np.ndarray


class Predictor:
    """A network with the weights that a final run left, and one detector."""

    def __init__(self, detector: str, run: Run, trained: Trained, last: Scores, device: torch.device) -> None:
        """Make the detector; `last` has the logits of the run's last evaluation."""
        self._detector, self._run, self._last, self._device = detector, run, last, device
        self._network = trained.network.to(device).to(memory_format=torch.channels_last)
        self._scorer = Scorer([detector], run.recipe, trained.normalisation.to(device), Workers())

    def score_test(self, prepared: Prepared | None) -> np.ndarray:
        """Return the scores, float64 (n,), of the run's test images in their recorded order.

        Without the data they follow from the recorded logits, which a detector on logits alone takes. Others
        need the data; those that learn are fitted here, so this comes before `score`. Raise DetectorFailed if
        the detector fails, and rescoring.NotReproduced if the network does not give the recorded logits.
        """
        if prepared is None:
            found = self._scorer.score_logits(self._detector, self._last.logits)
            if found is None:
                raise ValueError(f"{self._detector} needs the data")
            return found
        training = open_training([self._detector], self._run, prepared, self._device)
        test = open_test(prepared, self._run).to(self._device)
        scores = self._scorer.score(self._network, test, training)
        check_reproduced(scores, self._last)
        return scores.by_detector[self._detector]

    def score(self, pixels: np.ndarray) -> Predictions:
        """Return what the network says of images, uint8 (n, side, side, channels), and their scores.

        Raise DetectorFailed if the detector fails, or the network's outputs are not finite.
        """
        table = ImageTable.from_arrays("given", {"given": pixels}).to(self._device)
        found = self._scorer.score_beside(self._network, table)
        if not found.finite:
            raise DetectorFailed("the network's outputs are not finite")
        return Predictions(found.logits.argmax(1), found.by_detector[self._detector])

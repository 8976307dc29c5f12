"""One run from its data to its result: training, validation or scoring, and the history of both.

The anomalies and the test images are opened here, by the scoring step of a final run, and nothing that
scoring computes goes back into training.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator

import torch

from trainables.data.cache import Account, Prepared
from trainables.data.holdout import Part, open_final, open_search, open_test
from trainables.detectors.scoring import Scores, score, validate
from trainables.run import NO_HOLDOUT, Run
from trainables.train import Diverged, Training
from trainables.workers import Workers

History = list[dict[str, float]]
"""One row an epoch: "epoch", the metrics, and "speed/…" columns that vary between equal runs."""


class CellRun:
    """A run that can stop after any epoch and go on elsewhere from `snapshot`'s bytes."""

    def __init__(self, run: Run, prepared: Prepared, workers: Workers | None = None) -> None:
        self.run = run
        self.workers = workers or Workers()
        self._account = Account()
        prepared = prepared.accounted(self._account)
        self.data = open_search(prepared, run) if run.search else open_final(prepared, run)
        self.training = Training(run, self.data, self.workers)
        self.test = None if run.search else open_test(prepared, run).to(self.training.device)
        self.history: History = []
        self.scores: Scores | None = None
        self.diverged = False

    def opened(self) -> list[dict[str, object]]:
        """What this run opened, for the firewall: split, classes, count and digest of the images.

        From then on the run can open nothing else (RuntimeError).
        """
        return self._account.give()

    def epochs(self) -> Iterator[dict[str, float]]:
        """Trains what is left, an epoch at a time, and yields each epoch's row of the history.

        A search run whose loss, weights or answers are not finite ends at once with `diverged` set; a final
        one raises Diverged.
        """
        while self.training.epoch < self.run.recipe.epochs:
            try:
                metrics = {**self.training.train_epoch(), **self._evaluate()}
            except Diverged:
                if not self.run.search:
                    raise
                self.diverged = True
                return
            row = {"epoch": self.training.epoch, **metrics}
            row["speed/finished_at"] = time.time()
            self.history.append(row)
            yield row

    def _evaluate(self) -> dict[str, float]:
        recipe = self.run.recipe
        if not self.run.search and not recipe.evaluates_after(self.training.epoch):
            return {}
        if recipe.batch_norm_statistics == "recalibrated":
            self.training.recalibrate()
        network, normalisation = self.training.network, self.training.normalisation
        if self.test is None:
            validation = self.data.validation  # type: ignore[union-attr]
            part = Part(self.training.part.images, validation.rows, validation.labels)
            accuracy = validate(network, part, normalisation, recipe, self.workers)
            self._check(not math.isnan(accuracy))
            return {"val/accuracy": accuracy}
        self.scores = score(network, self.test, normalisation, recipe, self.workers)
        if self.training.device.type == "cuda":
            torch.cuda.empty_cache()  # others that share the GPU can have what scoring took beyond training
        self._check(self.scores.finite)
        return self.scores.metrics()

    def _check(self, finite: bool) -> None:
        """Raises Diverged where the network's answers are not finite, though its weights may still be."""
        if not finite:
            raise Diverged(
                f"the network's answers were not finite after epoch {self.training.epoch}: the training "
                "diverged; a smaller learning_rate or lambda may help."
            )

    def result(self) -> dict[str, object]:
        """The values that are reported, once every epoch is done.

        A search run's is its last epoch's validation accuracy (0 where it diverged). A final run's are the
        accuracy of the last epoch and the mean AP of the last min(ap_window, epochs) evaluations, each with
        its other form beside it (`_window`, `_last`), and the share of anomalies, which is what a random
        detector's AP tends to.
        """
        if self.run.search:
            value = 0.0 if self.diverged else self.history[-1]["val/accuracy"]
            return {"value": value, "diverged": self.diverged, "epochs": len(self.history)}
        if self.scores is None:  # resumed after its last epoch
            self._evaluate()
        assert self.scores is not None
        last = self.history[-1]
        values: dict[str, object] = {
            "final/test_accuracy": last["test/accuracy"],
            "final/test_accuracy_window": self._windowed("test/accuracy"),
            "epochs": len(self.history),
        }
        if self.run.holdout == NO_HOLDOUT:
            return values
        for name in ("msp", "odin"):
            values[f"final/ap_{name}"] = self._windowed(f"ap/{name}")
            values[f"final/ap_{name}_last"] = last[f"ap/{name}"]
        values["final/skew"] = float(self.scores.is_anomaly.mean())
        return values

    def _windowed(self, metric: str) -> float:
        """A metric's mean over the last min(ap_window, epochs) evaluations."""
        window = self.history[-self.run.recipe.ap_window :]
        return math.fsum(row[metric] for row in window) / len(window)

    def snapshot(self) -> bytes:
        """The run's state as bytes, history included."""
        buffer = io.BytesIO()
        torch.save({"training": self.training.state(), "history": self.history}, buffer)
        return buffer.getvalue()

    def restore(self, snapshot: bytes) -> None:
        """Goes on from a snapshot; raises whatever torch.load does where it is cut or foreign."""
        saved = torch.load(io.BytesIO(snapshot), map_location=self.training.device, weights_only=True)
        self.training.load(saved["training"])
        self.history = saved["history"]

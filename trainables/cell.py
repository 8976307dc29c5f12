"""One run from its data to its result: training, validation or scoring, and their history.

The anomalies and the test images are opened here, for the scoring step of a final run. Nothing that scoring
computes goes back into training.
"""

from __future__ import annotations

import io
import math
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from trainables.data.access_log import AccessLog
from trainables.data.holdout import Part, SearchData, open_final, open_search, open_test
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.detectors import DEFAULT_DETECTORS
from trainables.kept_weights import Trained, to_bytes
from trainables.metrics import average_precision, metrics_beside
from trainables.run import NO_HOLDOUT, Run
from trainables.scoring import Scorer, Scores, validate
from trainables.train import Diverged, Training
from trainables.workers import Workers

History = list[dict[str, float]]
"""One row per epoch: "epoch", the metrics, and "speed/…" values that vary between equal runs."""


class CellRun:
    """A run that can stop after any epoch and be resumed elsewhere from the bytes of `snapshot`."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        workers: Workers | None = None,
        detectors: Sequence[str] = DEFAULT_DETECTORS,
        image_sets: Sequence[ImageTable] = (),
        rungs: Collection[int] = (),
    ) -> None:
        """Open the run's data; `detectors` score a final run's test images, and image sets beside them.

        A search run is validated after the epochs of `rungs`, too.
        """
        self.run = run
        self._rungs = rungs
        self.workers = workers or Workers()
        self._access_log = AccessLog()
        prepared = prepared.with_access_log(self._access_log)
        self.data = open_search(prepared, run) if run.search else open_final(prepared, run)
        self.training = Training(run, self.data, self.workers, prepared.folder)
        self.test = None if run.search else open_test(prepared, run).to(self.training.device)
        self.scorer = Scorer(
            () if run.search else detectors, run.recipe, self.training.normalisation, self.workers
        )
        self._image_sets = [table.to(self.training.device) for table in image_sets]
        for table in image_sets:
            self._access_log.add(table)
        if run.search and image_sets:
            raise ValueError("a search run scores nothing, so it must not be given image sets")
        self.history: History = []
        self.scores_beside: dict[str, Scores] = {}
        """The scores of the image sets by name, once `result` was called."""
        self.scores: Scores | None = None
        self.window: dict[int, np.ndarray] = {}
        """Logits (n, K) of the evaluations in the window before the last one, by epoch."""
        self.diverged = False

    def close_access_log(self) -> list[dict[str, object]]:
        """Return what this run opened, for the leak firewall: split, classes, count and digest of the images.

        The run can open nothing else afterwards (RuntimeError).
        """
        return self._access_log.close()

    def epochs(self, until: int | None = None) -> Iterator[dict[str, float]]:
        """Train the remaining epochs, up to one of them, one by one and yield each one's row of the history.

        The learning rate's schedule is that of all epochs, wherever this stops.

        If the loss, the weights or the network's outputs are not finite, a search run ends at once with
        `diverged` set, and a final run raises Diverged.
        """
        while self.training.epoch < (until or self.run.recipe.epochs):
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
        epoch = self.training.epoch
        if self.run.search:
            due = recipe.validates_after(epoch) or epoch in self._rungs
        else:
            due = recipe.evaluates_after(epoch)
        if not due:
            return {}
        if recipe.batch_norm_statistics == "recalibrated":
            self.training.recalibrate()
        network, normalisation = self.training.network, self.training.normalisation
        if isinstance(self.data, SearchData):
            validation = self.data.validation
            part = Part(self.training.part.images, validation.rows, validation.labels)
            accuracy = validate(network, part, normalisation, recipe, self.workers)
            self._check(not math.isnan(accuracy))
            return {"val/accuracy": accuracy}
        assert self.test is not None
        last = epoch == recipe.epochs
        self.scores = self.scorer.score(network, self.test, self.training.part if last else None)
        if not last and epoch > recipe.epochs - recipe.ap_window:
            self.window[epoch] = self.scores.logits
        if self.training.device.type == "cuda":
            torch.cuda.empty_cache()  # gives what scoring took beyond training to others on the GPU
        self._check(self.scores.finite)
        return self.scores.metrics()

    def _check(self, finite: bool) -> None:
        """Raise Diverged unless the network's outputs are finite; its weights may be so even then."""
        if not finite:
            raise Diverged(
                f"the network's answers were not finite after epoch {self.training.epoch}: the training "
                "diverged; a smaller learning_rate or lambda may help."
            )

    def validated(self, epoch: int) -> float | None:
        """Return a search run's validation accuracy after an epoch; None if it was not validated then."""
        return next((row.get("val/accuracy") for row in self.history if row["epoch"] == epoch), None)

    def result(self) -> dict[str, float]:
        """Return the reported values, once every epoch is done.

        A search run reports the validation accuracy after its last epoch, 0 if it diverged. A final run has
        the accuracy of the last epoch and each detector's mean AP of the last min(ap_window, epochs)
        evaluations, with their other forms (`_window`, `_last`), the detector's AUROC and FPR at 95% TPR at
        the last evaluation, and the share of anomalies, to which a random detector's AP tends. A detector
        that took part in the last evaluation only has no mean. Image sets are scored by the last network.
        """
        if self.run.search:
            value = 0.0 if self.diverged else self.history[-1]["val/accuracy"]
            return {"value": value, "diverged": self.diverged, "epochs": len(self.history)}
        if self.scores is None:  # resumed after its last epoch
            self._evaluate()
        assert self.scores is not None
        last = self.history[-1]
        values: dict[str, float] = {
            "final/test_accuracy": last["test/accuracy"],
            "final/test_accuracy_window": self._windowed("test/accuracy"),
            "epochs": len(self.history),
        }
        if self.run.holdout == NO_HOLDOUT:
            return {**values, **self._beside()}
        window, at_last = self.history[-self.run.recipe.ap_window :], self.scores.metrics()
        for name in self.scores.by_detector:
            in_window = [self._ap(name, row) for row in window[:-1]]
            if not self.scorer.needs_features(name) and None not in in_window:
                aps = [ap for ap in in_window if ap is not None]
                values[f"final/ap_{name}"] = math.fsum([*aps, at_last[f"ap/{name}"]]) / len(window)
            values[f"final/ap_{name}_last"] = at_last[f"ap/{name}"]
        values["final/skew"] = float(self.scores.is_anomaly.mean())
        thresholds = self.scores.threshold_metrics()
        values |= {f"final/{name}": value for name, value in thresholds.items()}
        return {**values, **self._beside()}

    def _beside(self) -> dict[str, float]:
        """Score the image sets; return their metrics beside the test images of the kept classes."""
        assert self.scores is not None
        kept = ~self.scores.is_anomaly
        values: dict[str, float] = {}
        normal = {name: scores[kept] for name, scores in self.scores.by_detector.items()}
        for table in self._image_sets:
            (name,) = table.classes
            found = self.scorer.score_beside(self.training.network, table)
            self._check(found.finite)
            self.scores_beside[name] = found
            values |= metrics_beside(name, normal, found.by_detector)
        return values

    def _ap(self, detector: str, row: dict[str, float]) -> float | None:
        """Return a detector's AP at an earlier evaluation, from its logits if it took no part in it."""
        recorded = row.get(f"ap/{detector}")
        if recorded is not None:
            return recorded
        assert self.scores is not None
        logits = self.window.get(int(row["epoch"]))
        scores = None if logits is None else self.scorer.score_logits(detector, logits)
        return None if scores is None else average_precision(scores, self.scores.is_anomaly)

    def _windowed(self, metric: str) -> float:
        """Return a metric's mean over the last min(ap_window, epochs) evaluations."""
        window = self.history[-self.run.recipe.ap_window :]
        return math.fsum(row[metric] for row in window) / len(window)

    def weights(self) -> bytes:
        """Return the network as it is now, as a safetensors file (kept_weights.py)."""
        trained = Trained(self.training.network, self.data.classes, self.training.normalisation)
        return to_bytes(trained, self.run.recipe)

    def snapshot(self) -> bytes:
        """Return the run's state and history as bytes."""
        window = {epoch: torch.from_numpy(logits) for epoch, logits in self.window.items()}
        buffer = io.BytesIO()
        torch.save({"training": self.training.state(), "history": self.history, "window": window}, buffer)
        return buffer.getvalue()

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot; raise an error, and change nothing, if it is cut, altered or foreign.

        Nothing in it is executed.
        """
        with zipfile.ZipFile(io.BytesIO(snapshot)) as archive:  # torch.load does not look at the checksums
            altered = archive.testzip()
        if altered is not None:
            raise zipfile.BadZipFile(f"the checksum of {altered} is wrong")
        saved = torch.load(io.BytesIO(snapshot), map_location=self.training.device, weights_only=True)
        history = [dict(row) for row in saved["history"]]
        # Snapshots of version 0.1 have none.
        window = {epoch: logits.cpu().numpy() for epoch, logits in saved.get("window", {}).items()}
        self.training.load(saved["training"])
        self.history, self.window = history, window

"""Measuring how long the parts of a run take here: real steps and evaluations of the real network.

The run is that of a cell, with its data, batches and detectors, cut short by a clock. It leaves nothing
behind.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from trainables.cell import CellRun
from trainables.data.holdout import Part, SearchData
from trainables.data.image_table import ImageTable
from trainables.data.prepared import Prepared
from trainables.heartbeat import listening
from trainables.pace import Pace
from trainables.run import Run, parse_method
from trainables.scoring import images_per_batch, validate
from trainables.train import Diverged
from trainables.training_free_run import TrainingFreeRun

TRAINING_SHARE = 0.6
"""Share of the time that goes to training steps; the rest goes to evaluations."""
FEWEST = 3
"""Steps, or batches of an evaluation, however long they take: the first one is slower than others."""
BLOCKS = 8
"""Steps beside each other are slowed down alike, so that their spread is taken over so many stretches."""
UNKNOWN_NOISE = 0.1
"""Standard error, as a share, of a mean of too few to know it."""


class _Enough(BaseException):
    """The time is over; nothing in a run catches this."""


class _Clock:
    """Notes when the beats of a phase come, and ends the work that gives them once the time is over."""

    def __init__(self, phase: str, device: torch.device, seconds: float, fewest: int) -> None:
        self._phase, self._device, self._fewest = phase, device, fewest
        self._over = time.perf_counter() + seconds
        self.beats: list[float] = []

    def __call__(self, phase: str, epoch: int = 0, images: int = 0) -> None:
        """Hear a beat."""
        if phase == self._phase:
            self.beats.append(_now(self._device))
            if self.over:
                raise _Enough

    @property
    def over(self) -> bool:
        """Whether the time is over, and there were as many beats as there must be."""
        return time.perf_counter() >= self._over and len(self.beats) >= self._fewest

    def run(self, work: Callable[[], object]) -> float | None:
        """Do some work and return how many seconds it took; None if it was not finished in time."""
        began = _now(self._device)
        with listening(self), contextlib.suppress(_Enough):
            with contextlib.suppress(Diverged):  # which shows after the last step
                work()
            return _now(self._device) - began
        return None


def _now(device: torch.device) -> float:
    """Return a time at which a GPU has done what it was given, or the time that one thread had a CPU.

    So other work on the machine, which comes and goes, does not make a step seem slow.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


@dataclass
class _Steps:
    """Seconds of steps but for the first of each epoch, of whole epochs, and of the very first step."""

    steps: list[float] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    first: float = 0.0


def measure(
    run: Run,
    prepared: Prepared,
    seconds: float,
    detectors: Sequence[str],
    image_sets: Sequence[ImageTable] = (),
) -> tuple[Pace, CellRun | TrainingFreeRun]:
    """Measure for about so many seconds, longer if the least that says anything takes longer.

    Return the pace, without the writing of files, and the run, scored if it is a final one.
    """
    if not parse_method(run.method).trains:
        return _whole(run, prepared, image_sets)
    began, used = time.perf_counter(), time.process_time()
    _Probe(run, prepared, detectors, image_sets).train(0.0, fewest=1)  # what happens once in a process
    probe = _Probe(run, prepared, detectors, image_sets)
    taken = probe.train(TRAINING_SHARE * seconds)
    pace = probe.pace(taken, (1 - TRAINING_SHARE) * seconds)
    if run.device == "cpu" and torch.get_num_threads() == 1:
        passed = time.perf_counter() - began
        pace = replace(pace, share=min(1.0, (time.process_time() - used) / passed))
    return pace, probe.running


def _whole(run: Run, prepared: Prepared, image_sets: Sequence[ImageTable]) -> tuple[Pace, TrainingFreeRun]:
    """Return how long a run takes that trains nothing, by running it."""
    began = time.perf_counter()
    running = TrainingFreeRun(run, prepared, image_sets)
    running.score()
    running.result()
    images = len(running.label)
    took = time.perf_counter() - began
    return Pace(took, 0.0, 0.0, 0.0, 0.0, evaluated_images=images, noise=UNKNOWN_NOISE), running


class _Probe:
    """A run whose parts are measured one after another."""

    def __init__(
        self, run: Run, prepared: Prepared, detectors: Sequence[str], image_sets: Sequence[ImageTable]
    ) -> None:
        self._device = torch.device(run.device)
        began = _now(self._device)
        self.running = CellRun(run, prepared, None, detectors, image_sets)
        self._sets, self._detectors = image_sets, detectors
        self._training = self.running.training
        self._built = _now(self._device) - began

    def train(self, seconds: float, fewest: int = FEWEST) -> _Steps:
        """Train for so many seconds, and at least so many steps."""
        of_step = 1 + len(self._training.tasks)  # beats
        clock, found = _Clock("training", self._device, seconds, fewest * of_step), _Steps()
        while not clock.over:
            before, began = len(clock.beats), _now(self._device)
            took = clock.run(self._training.train_epoch)
            ends = clock.beats[before:][of_step - 1 :: of_step]
            found.first = found.first or ends[0] - began
            found.steps += [after - earlier for earlier, after in itertools.pairwise(ends)]
            if took is not None:
                found.epochs.append(took)
        return found

    def pace(self, taken: _Steps, seconds: float) -> Pace:
        """Measure the evaluations for so many seconds; return them with what training took."""
        per_epoch = self._training.steps_per_epoch
        steps = taken.steps or taken.epochs  # epochs of one step
        step = statistics.fmean(steps)
        beside = [max(0.0, epoch - per_epoch * step) for epoch in taken.epochs]
        first, *later = beside or [taken.first - step]
        epoch = statistics.fmean(later) if later else first if beside else 0.0
        n, image, measured, noise = self._evaluate(seconds)
        others = sum(map(len, self._sets))
        return Pace(
            begin=self._built + max(0.0, first - epoch),
            step=step,
            epoch=epoch,
            evaluated_image=image + self._recalibration(seconds) / n,
            end=self._last_evaluation(n * image, seconds) + others * image + self._thresholds(),
            steps=len(steps),
            evaluated_images=measured,
            noise=max(_noise(steps), noise),
        )

    def _evaluate(self, seconds: float) -> tuple[int, float, int, float]:
        """Return an evaluation's images, the seconds of one, how many were measured, and the noise."""
        work, n, size, phase = self._validation() or self._scoring()
        clock, passes, gaps, measured = _Clock(phase, self._device, seconds, FEWEST), [], [], 0
        while not clock.over:
            before = len(clock.beats)
            took = clock.run(work)
            passes += [] if took is None else [took]
            beats = clock.beats[before:]
            gaps += [after - earlier for earlier, after in itertools.pairwise(beats)]
            measured += n if took is not None else min(n, size * (len(beats) - 1))
        if passes:
            usual = passes[1:] or passes
            return n, statistics.fmean(usual) / n, measured, _noise(usual)
        return n, statistics.fmean(gaps) / size, measured, _noise(gaps)

    def _validation(self) -> tuple[Callable[[], object], int, int, str] | None:
        """Return a search run's validation, its images, those of a batch, and its phase; None for others."""
        running, data = self.running, self.running.data
        if not isinstance(data, SearchData):
            return None
        part = Part(self._training.part.images, data.validation.rows, data.validation.labels)
        arguments = (self._training.network, part, self._training.normalisation, running.run.recipe)
        return (
            lambda: validate(*arguments, running.workers),
            len(part),
            images_per_batch(part.images),
            "validation",
        )

    def _scoring(self) -> tuple[Callable[[], object], int, int, str]:
        """Return a final run's scoring, its images, those of a batch, and its phase."""
        running, test = self.running, self.running.test
        assert test is not None

        def score() -> None:
            running.scores = running.scorer.score(self._training.network, test)
            running.scores.metrics()

        return score, len(test.labels), images_per_batch(test.images), "scoring"

    def _recalibration(self, seconds: float) -> float:
        """Return the seconds of a pass for batch norm's statistics, 0 if the recipe has none."""
        recipe = self.running.run.recipe
        if recipe.batch_norm_statistics != "recalibrated":
            return 0.0
        clock = _Clock("recalibration", self._device, seconds, FEWEST)
        took = clock.run(self._training.recalibrate)
        if took is not None:
            return took
        batches = math.ceil(len(self._training.part) / (recipe.micro_batch or recipe.batch_size))
        return batches * statistics.fmean(b - a for a, b in itertools.pairwise(clock.beats))

    def _last_evaluation(self, usual: float, seconds: float) -> float:
        """Return what fitting detectors on features adds to an evaluation, as far as time allows to see."""
        running, test = self.running, self.running.test
        if test is None or not any(map(running.scorer.needs_features, self._detectors)):
            return 0.0
        part, network = self._training.part, self._training.network
        clock = _Clock("scoring", self._device, seconds, FEWEST)
        took = clock.run(lambda: running.scorer.score(network, test, part))
        if took is not None:
            return max(0.0, took - usual)
        some = part.rows[: FEWEST * images_per_batch(part.images)]
        began = _now(self._device)
        running.scorer.embed(network, part.images, some)
        return (_now(self._device) - began) * len(part) / len(some)

    def _thresholds(self) -> float:
        """Return the seconds of the values that stand in the result alone."""
        scores, began = self.running.scores, _now(self._device)
        if scores is not None and scores.is_anomaly.any():
            scores.threshold_metrics()
        return _now(self._device) - began


def _noise(durations: Sequence[float]) -> float:
    """Return the standard error of a mean, as a share of it, from the spread over stretches."""
    blocks = min(BLOCKS, len(durations))
    if blocks < 2:
        return UNKNOWN_NOISE
    size = len(durations) / blocks
    means = [statistics.fmean(durations[round(k * size) : round((k + 1) * size)]) for k in range(blocks)]
    return statistics.stdev(means) / math.sqrt(blocks) / statistics.fmean(means)

"""The training loop: alternating steps on auxiliary and classification batches, each with its optimiser.

It trains one epoch per call and knows nothing of scheduling, storage or tracking. The random draws of an
epoch depend on (seeds, epoch) only, so a loop that loads the state of epoch k continues as if it had not
stopped.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.arithmetic import full_precision, quickest_convolutions
from trainables.auxiliary import AuxiliaryTask, Draws, TaskModule, find_task
from trainables.compiling import compile_trunk, uncompiled
from trainables.data.augment import Views, center_crop, draw_views, mask_squares, random_crop
from trainables.data.holdout import FinalData, Part, SearchData
from trainables.data.normalisation import measure
from trainables.data.sending import sent
from trainables.failures import PermanentFailure, TaskFailed, blamed
from trainables.heartbeat import beat
from trainables.memory import keep_freed_memory
from trainables.networks.batch_norm import fresh_statistics, frozen_statistics, synchronise, unsynchronised
from trainables.networks.wide_resnet import WideResNet, initialise
from trainables.randomness import stream, stream_seed
from trainables.recipe import total_batch_size
from trainables.run import Run, parse_method
from trainables.workers import Workers

DROPS = (0.3, 0.6, 0.8)
DROP = 0.2
"""The learning rate is divided by 5 after 60, 120 and 160 of the paper's 200 epochs."""


class Diverged(PermanentFailure):
    """The loss, a weight or an output is no longer finite; the message names the epoch."""


def learning_rate(base: float, step: int, steps: int) -> float:
    """Return the rate at a step, 0 to steps - 1; each drop applies if step >= share * steps."""
    return base * DROP ** sum(step >= share * steps for share in DROPS)


def _said(value: object) -> str:
    """Return what a value is, for a message."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"a tensor of shape {tuple(value.shape)}" + ("" if value.requires_grad else " without a gradient")


class Training:
    """The training of a run: network, auxiliary heads, their optimisers, and the number of epochs done."""

    def __init__(
        self,
        run: Run,
        data: SearchData | FinalData,
        workers: Workers | None = None,
        folder: Path | None = None,
    ) -> None:
        """Build the network; what is counted of the training images is kept in the prepared data's folder."""
        keep_freed_memory()
        self.run = run
        self.recipe = run.recipe
        self.method = parse_method(run.method)
        self.workers = workers or Workers()
        self.device = torch.device(run.device)
        if self.device.type == "cuda":
            gc.collect()  # a compiled network is in a reference cycle: the last cell's may still hold memory
        self.normalisation = measure(data.training, folder).to(self.device)
        images = data.training.images.to(self.device)
        self.part = Part(images, data.training.rows, data.training.labels)
        self.epoch = 0
        self._count_steps(data.whole_count)
        self._build(len(data.classes))

    def _count_steps(self, whole_count: int) -> None:
        size = self.workers.size
        self.batch_size = total_batch_size(self.recipe, len(self.part), size)
        images = whole_count if self.recipe.epoch_length == "whole" else len(self.part)
        self.steps_per_epoch = max(1, images // self.batch_size)
        self.steps = self.steps_per_epoch * self.recipe.epochs
        share = self.batch_size // size
        self.micro_batches = math.ceil(share / (self.recipe.micro_batch or share))

    def _build(self, classes: int) -> None:
        beat("building the network")
        channels = self.part.images.channels
        self.tasks = [find_task(name, self.recipe, channels) for name in self.method.auxiliary]
        own_tasks = tuple(task.name for task in self.tasks if task.own_norm)
        network = WideResNet(self.recipe, channels, classes, own_tasks)
        initialise(network, self._stream(0, "network"))
        self.heads: dict[str, TaskModule] = {}
        for task in self.tasks:
            with self._blaming(task), torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(self.run.sweep_seed, self.run.seed, 0, f"build/{task.name}"))
                head = task.build(network, self.recipe)
            initialise(head, self._stream(0, f"head/{task.name}"))
            self.heads[task.name] = head.to(self.device)
        together = self.recipe.synchronised_batch_norm and self.workers.size > 1
        if together:
            for module in (network, *self.heads.values()):
                synchronise(module)
        self.network = network.to(self.device)
        # Tensor cores want it. Evaluations keep it, too: with another one the network would round otherwise
        # than it was trained, and all its weights would be converted back and forth.
        self.network.to(memory_format=torch.channels_last)
        trunk = [p for n, p in self.network.named_parameters() if not n.startswith("classifier.")]
        self.optimisers = {"classification": self._optimiser(list(self.network.parameters()), decay=True)}
        for task in self.tasks:
            parameters = trunk + list(self.heads[task.name].parameters())
            self.optimisers[task.name] = self._optimiser(parameters, decay=task.weight_decay)
        if not together:  # communication between workers would break the compiled graph into pieces
            compile_trunk(self.network, self.device)

    def _optimiser(self, parameters: list[nn.Parameter], *, decay: bool) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum; it skips parameters without a gradient."""
        everything = self.recipe.decay == "all"
        decayed = [p for p in parameters if everything or p.ndim > 1]
        exempt = [p for p in parameters if not everything and p.ndim <= 1]
        penalty = self.recipe.weight_decay if decay else 0.0
        return torch.optim.SGD(
            [{"params": decayed, "weight_decay": penalty}, {"params": exempt, "weight_decay": 0.0}],
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.momentum > 0,
            fused=True,
        )

    def _stream(self, epoch: int, purpose: str) -> torch.Generator:
        return stream(self.run.sweep_seed, self.run.seed, epoch, purpose)

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch and return its metrics; raise Diverged if a loss or a weight is not finite."""
        epoch = self.epoch + 1
        started = time.perf_counter()
        self.network.train()
        purpose = f"dropout/{self.workers.rank}"
        torch.manual_seed(stream_seed(self.run.sweep_seed, self.run.seed, epoch, purpose))
        order = self._order(epoch, "order", self.steps_per_epoch * self.batch_size)
        views = draw_views(
            len(order), self.recipe, self._stream(epoch, "views"), center_mask=self.method.center_mask
        )
        auxiliary = [self._auxiliary_steps(task, epoch) for task in self.tasks]
        rows, labels = (
            self.part.rows[order].to(self.part.images.home),
            self.part.labels[order].to(self.device),
        )
        with quickest_convolutions(self.device):
            sums, auxiliary_sums = self._steps(rows, labels, views.to(self.device), auxiliary)
        self.workers.average_statistics(self.network)
        self.epoch = epoch
        self._check_finite()
        metrics = self._metrics(self.workers.total(sums), self.workers.total(auxiliary_sums))
        metrics["speed/images_per_second"] = len(order) / (time.perf_counter() - started)
        return metrics

    def _steps(
        self, rows: Tensor, labels: Tensor, views: Views, auxiliary: list[Iterator[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Make an epoch's steps; return the sums of losses and hits, (2,), and those of the tasks' losses.

        From the first step to the last nothing waits for the device, which would stand idle meanwhile.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        auxiliary_sums = torch.zeros(len(self.tasks), dtype=torch.float64, device=self.device)
        share = self.workers.share(self.batch_size)
        for step in range(self.steps_per_epoch):
            self._set_learning_rate(self.epoch * self.steps_per_epoch + step)
            for number, steps in enumerate(auxiliary):
                auxiliary_sums[number] += next(steps)
            start = step * self.batch_size
            chosen = slice(start + share.start, start + share.stop)
            sums += self._classification_step(rows[chosen], labels[chosen], views.take(chosen))
            beat("training", self.epoch + 1, share.stop - share.start)
        return sums, auxiliary_sums

    def _order(self, epoch: int, purpose: str, n: int) -> Tensor:
        """Return n positions in the training part, int64: consecutive shuffles of all of it."""
        generator = self._stream(epoch, purpose)
        shuffles = math.ceil(n / len(self.part))
        return torch.cat([torch.randperm(len(self.part), generator=generator) for _ in range(shuffles)])[:n]

    def _metrics(self, sums: Tensor, auxiliary_sums: Tensor) -> dict[str, float]:
        loss, correct = sums.tolist()
        seen = self.steps_per_epoch * self.batch_size
        rate = learning_rate(self.recipe.learning_rate, self.epoch * self.steps_per_epoch - 1, self.steps)
        metrics = {"train/loss": loss / seen, "train/accuracy": correct / seen, "train/learning_rate": rate}
        for task, total in zip(self.tasks, auxiliary_sums.tolist(), strict=True):
            metrics[f"aux/{task.name}_loss"] = total / self.steps_per_epoch / self.workers.size
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name} was {value} in epoch {self.epoch}: the training diverged; "
                    "a smaller learning_rate or lambda may help."
                )
        return metrics

    def _check_finite(self) -> None:
        """Raise Diverged if the last step left a weight that is not finite, which no loss has shown yet."""
        largest = [p.detach().abs().max() for p in self.network.parameters()]
        if not torch.stack(largest).isfinite().all():
            raise Diverged(
                f"a weight was not finite after epoch {self.epoch}: the training diverged; "
                "a smaller learning_rate or lambda may help."
            )

    def _set_learning_rate(self, step: int) -> None:
        rate = learning_rate(self.recipe.learning_rate, step, self.steps)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate

    def _classification_step(self, rows: Tensor, labels: Tensor, views: Views) -> Tensor:
        """Make one step on this worker's images; return the sums of losses and hits, (2,)."""
        images = self.part.images.gather(rows)
        inputs = mask_squares(self.normalisation(random_crop(images, views, self.recipe)), views)
        micro = self.recipe.micro_batch or len(inputs)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        # One after another, on GPUs too: one pass, with norms that take the batch in parts, would need the
        # whole batch's memory, against which micro_batch helps, and draw other dropout.
        for x, y in zip(inputs.split(micro), labels.split(micro), strict=True):
            with self._autocast():
                logits = self.network(x)
            # The loss is taken in at least float32, even if autocast made the logits bfloat16.
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss = F.cross_entropy(wide, y, reduction="sum")
            (loss / len(labels)).backward()
            correct = (logits.detach().argmax(1) == y).sum()
            sums += torch.stack([loss.detach().double(), correct.double()])
        self._step("classification")
        return sums

    def _auxiliary_steps(self, task: AuxiliaryTask, epoch: int) -> Iterator[Tensor]:
        """Make the epoch's steps of a task on images of the task's own stream, and yield each loss."""
        images = task.images_per_step(self.batch_size)
        positions = self._order(epoch, f"order/{task.name}", self.steps_per_epoch * images)
        generator = self._stream(epoch, f"draws/{task.name}")
        for rows in positions.split(images):
            with self._blaming(task):
                draws = self.heads[task.name].draw(rows, generator)
            if not isinstance(draws, Draws):
                raise TaskFailed(f"the auxiliary task {task.name} must draw Draws, but drew {_said(draws)}")
            yield self._auxiliary_step(task, draws.to(self.device))

    def _blaming(self, task: AuxiliaryTask) -> contextlib.AbstractContextManager[None]:
        """Turn errors in a task's code into TaskFailed; of several workers one fails if another has died."""
        if self.workers.size > 1:
            return contextlib.nullcontext()
        return blamed(TaskFailed, f"the auxiliary task {task.name}")

    def _auxiliary_step(self, task: AuxiliaryTask, draws: Draws) -> Tensor:
        """Make one step on this worker's share of the draws, and return their mean loss."""
        head = self.heads[task.name]
        updates = task.own_norm or self.recipe.batch_norm_statistics == "shared"
        parts = self._micro_parts(draws)
        total = max(1, sum(len(part.rows) for part in parts))
        mean = torch.zeros((), device=self.device)
        for part in parts:
            images = self.part.images.gather(sent(self.part.rows[part.rows], self.part.images.home))
            frozen = contextlib.nullcontext() if updates else frozen_statistics(self.network)
            with frozen, self._autocast(), self._blaming(task):
                loss = head.loss(self.network, images, part, self.normalisation)
            if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
                raise TaskFailed(
                    f"the auxiliary task {task.name} must return its mean loss, a scalar with a gradient, "
                    f"but returned {_said(loss)}"
                )
            loss = loss * (len(part.rows) / total)
            (self.run.aux_weights[task.name] * loss).backward()
            mean = mean + loss.detach()
        self._step(task.name)
        beat("training")
        return mean

    def _micro_parts(self, draws: Draws) -> list[Draws]:
        """Return this worker's draws in as many parts as a classification step has, but none of them empty.

        Each part is what one of as many workers would take, so it is normalised as by that worker.
        """
        rank, size, n = self.workers.rank, self.workers.size, len(draws.rows)
        count = max(1, min(self.micro_batches, n // size))
        return [draws.take(Workers(rank * count + k, size * count).share(n)) for k in range(count)]

    def _step(self, name: str) -> None:
        optimiser = self.optimisers[name]
        self.workers.average_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()
        optimiser.zero_grad()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def state(self) -> dict[str, object]:
        """Return everything that the next epoch depends on, for torch.save."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "tasks": {name: head.state_dict() for name, head in self.heads.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state; one of another network raises an error and changes nothing."""
        before = copy.deepcopy(self.state())
        try:
            self._load(state)
        except Exception:
            self._load(before)
            raise

    def _load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        for name, head in self.heads.items():
            head.load_state_dict(state["tasks"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.epoch = state["epoch"]

    def recalibrate(self) -> None:
        """Re-estimate batch norm's running statistics on centre crops of all training images.

        Training does not use them, so this affects evaluations only. Workers may pass different numbers of
        batches; the result is the mean over the workers of each one's mean over its batches.
        """
        rows = self.part.rows[self.workers.share(len(self.part))]
        # Equal batches: in the plain mean over batches, a small last one would weigh as much as a full one.
        batches = math.ceil(len(rows) / (self.recipe.micro_batch or self.recipe.batch_size))
        self.network.eval()
        with (
            torch.no_grad(),
            full_precision(self.device),
            uncompiled(self.network),
            unsynchronised(self.network),
            fresh_statistics(self.network),
        ):
            for chosen in rows.tensor_split(batches):
                beat("recalibration")
                self.network(
                    self.normalisation(center_crop(self.part.images.gather(chosen), self.recipe.image_size))
                )
        self.workers.average_statistics(self.network)

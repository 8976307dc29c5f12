"""A trial of several workers: Ray Train's processes around one cell.

Each worker runs the very same trial (trial.py) with its place in the group; the first one alone writes into
the ledger. A worker that dies ends the group, the plan tries the cell again, and the next group goes on
from the ledger's checkpoint, wherever it runs.
"""

from __future__ import annotations

from typing import Any

from ray import train
from ray.train import ControllerError, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.tune.integration.ray_train import TuneReportCallback

from orchestrator.execution.attempt import Task, run_trial
from orchestrator.execution.dispatcher import describe
from orchestrator.execution.resources import Resources
from orchestrator.planning.cells import Cell
from trainables.train import Diverged
from trainables.workers import Workers


def run_group(
    task: Task, cell: Cell, aux_weights: dict[str, float], resources: Resources, scratch: str
) -> None:
    """Runs one attempt at a cell in a group, which reports to Tune; GroupFailed says why it ended early.

    `scratch` is a folder that every node reaches, for Ray's own marks.
    """
    cuda = task.specification.device == "cuda"
    attempt = task.ledger.attempts(cell.key) + 1
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task, "cell": cell, "aux_weights": aux_weights},
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=cuda, resources_per_worker=resources.worker
        ),
        run_config=RunConfig(
            name=f"{cell.key}-{attempt}",
            storage_path=scratch,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # Ray types the older RunConfig
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise GroupFailed(in_words(error)) from error


class GroupFailed(RuntimeError):
    """A group of workers ended before its cell was done; the message says of what."""


def in_words(error: TrainingFailedError) -> str:
    """What each worker that failed died of, in one line; Ray's own first line says only that some did."""
    if isinstance(error, ControllerError):
        return describe(error.controller_failure)
    if not isinstance(error, WorkerGroupError):
        return describe(error)
    # A worker's exception comes in one of Ray's, whose text is a traceback.
    failures = {rank: getattr(each, "_base_exc", each) for rank, each in error.worker_failures.items()}
    return "; ".join(f"worker {rank}: {describe(failures[rank])}" for rank in sorted(failures))


def _worker(config: dict[str, Any]) -> None:
    """Runs in each worker's process; reports are made by all of them, and the first one's count."""
    context = train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    task = config["task"]
    if task.specification.device == "cuda":
        import torch

        torch.cuda.set_device(get_device())
    try:
        result = run_trial(
            task,
            config["cell"],
            config["aux_weights"],
            lambda _, epoch: train.report({"epoch": epoch}),
            workers,
        )
    except Diverged as error:  # all workers reach it together; anything else ends the group
        train.report({"epoch": 0, "ending": "hopeless", "error": describe(error)})
        return
    value = result["values"].get("value")
    train.report({"epoch": task.specification.recipe.epochs, "ending": "done", "value": value})

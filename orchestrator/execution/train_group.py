"""A cell of several workers: Ray Train's processes around one attempt.

Each worker runs the same attempt (attempt.py) with its rank in the group; the first one alone writes into the
ledger. A worker that dies ends the group, the plan tries the cell again, and the next group goes on from the
ledger's checkpoint, wherever it runs.
"""

from __future__ import annotations

from typing import Any

from ray import train
from ray.train import ControllerError, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.tune.integration.ray_train import TuneReportCallback

from orchestrator.execution.attempt import run_attempt
from orchestrator.execution.dispatcher import describe
from orchestrator.execution.interruption import Interrupted, stop
from orchestrator.execution.memory import RanOut, short_of
from orchestrator.execution.pulse import beating
from orchestrator.execution.resources import Resources
from orchestrator.execution.trial_reports import ended, failed, interrupted
from orchestrator.planning.plan import Assignment
from orchestrator.planning.sweep import Sweep
from trainables.failures import PermanentFailure
from trainables.workers import Workers


def run_group(
    sweep: Sweep,
    assignment: Assignment,
    resources: Resources,
    scratch: str,
    pulse: str,
    trial: str,
    threads: int | None = None,
) -> None:
    """Run one attempt at a cell in a group, which reports to Tune; raise GroupFailed if it ended early.

    `scratch` is a folder that every node reaches, for Ray's own bookkeeping. The workers send their beats to
    the pulse, as those of the trial. `threads` is what libraries are to use for their sums, if that is not
    what the workers' CPUs suggest.
    """
    cuda = sweep.specification.device == "cuda"
    attempt = sweep.ledger.attempts(assignment.cell.key) + 1
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "sweep": sweep,
            "assignment": assignment,
            "pulse": pulse,
            "trial": trial,
            "usage": resources.usage,
        },
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=cuda, resources_per_worker=resources.worker
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # Ray types the older RunConfig
            name=f"{assignment.cell.key}-{attempt}",
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}} if threads else None,
            storage_path=scratch,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise GroupFailed(in_words(error), _short_of(error)) from error


class GroupFailed(RanOut):
    """A group of workers ended before its cell was done; the message says why."""

    def __init__(self, message: str, short: str | None = None) -> None:
        super().__init__(message)
        self.short_of = short


def _short_of(error: TrainingFailedError) -> str | None:
    """Return whose memory ran out, by what the workers raised."""
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error]
    found = [short_of(getattr(each, "_base_exc", each)) for each in failures]
    return next((each for each in found if each), None)


def in_words(error: TrainingFailedError) -> str:
    """Say in one line why each worker failed; Ray's own first line says only that some did."""
    if isinstance(error, ControllerError):
        return describe(error.controller_failure)
    if not isinstance(error, WorkerGroupError):
        return describe(error)
    # A worker's exception comes in one of Ray's, whose text is a traceback.
    failures = {rank: getattr(each, "_base_exc", each) for rank, each in error.worker_failures.items()}
    return "; ".join(f"worker {rank}: {describe(failures[rank])}" for rank in sorted(failures))


def _worker(config: dict[str, Any]) -> None:
    """Run in each worker's process; all of them report, and the first one's reports count."""
    context = train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    with beating(config["pulse"], config["trial"], workers.rank, stop.ask):
        _attempt(config, workers)


def _attempt(config: dict[str, Any], workers: Workers) -> None:
    sweep = config["sweep"]
    if sweep.specification.device == "cuda":
        import torch

        torch.cuda.set_device(get_device())
    try:
        result = run_attempt(
            sweep,
            config["assignment"],
            lambda _, epoch: train.report({"epoch": epoch}),
            workers,
            config["usage"],
        )
    except PermanentFailure as error:  # all workers reach it together; anything else ends the group
        train.report(failed(describe(error), retryable=False))
        return
    except Interrupted as error:  # as above
        train.report(interrupted(str(error)))
        return
    train.report(ended(result, sweep.specification.recipe.epochs))

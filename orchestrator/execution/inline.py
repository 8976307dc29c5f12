"""The executor without Ray: cells one after another in this process."""

from __future__ import annotations

import socket

from orchestrator.cli.supervisor import tell
from orchestrator.execution.attempt import RUNG, VALUE, run_attempt
from orchestrator.execution.beats import Beats
from orchestrator.execution.dispatcher import Dispatcher, describe
from orchestrator.execution.executor import Executor
from orchestrator.execution.interruption import Interrupted
from orchestrator.execution.memory import advice, short_of
from orchestrator.execution.resources import Resources
from orchestrator.execution.trial_reports import measured
from orchestrator.execution.watchdog import Process, Watchdog
from orchestrator.execution.watching import Watch
from orchestrator.machines.devices import check_gpus, check_gpus_here, device_kind
from orchestrator.planning.request import Request
from orchestrator.planning.specification import Specification
from orchestrator.planning.studies import Outcome
from orchestrator.planning.sweep import Sweep
from trainables.failures import PermanentFailure
from trainables.heartbeat import listening
from trainables.mistake import Mistake


class InlineExecutor(Executor):
    """Runs every cell in this process; a failing cell leaves the others to go on, an interrupt ends it."""

    tracking_is_optional = True

    def __init__(self, request: Request) -> None:
        self._request = request

    def device_kind(self) -> str:
        """Return "cuda" if this machine has a GPU and none was ruled out, else "cpu"."""
        return device_kind(self._request.gpus_per_worker, self._request.cpus_per_worker)

    def check(self, specification: Specification) -> None:
        """Raise Mistake for cells of several workers, and for a device that this machine does not have."""
        if specification.workers > 1:
            raise Mistake(
                f"--executor inline runs in one process, and the sweep's cells have {specification.workers} "
                "workers: leave --executor out, or start another sweep with --workers 1."
            )
        check_gpus(self._request.gpus_per_worker, specification.device, specification.workers)
        check_gpus_here(specification.device)

    def run(self, dispatcher: Dispatcher, sweep: Sweep) -> None:
        """Run the cells one after another."""
        usage = Resources.of(self._request, sweep.specification).usage
        host = socket.gethostname()
        dog, beats = Watchdog(0), Beats(Process("", host=host))
        watch = Watch(dog, dispatcher.progress, lambda: [beats.sign()])
        with dispatcher.progress.running(), listening(beats.beat), watch.running():
            while (assignment := dispatcher.next()) is not None:
                cell = assignment.cell
                tell(cell=cell.label)
                beats.begin(Process(cell.key, host=host))
                dog.began(cell.key, cell.key, cell.label)
                try:
                    result = run_attempt(sweep, assignment, dispatcher.progressed, usage=usage)
                except Interrupted:
                    return
                except (Exception, SystemExit) as error:  # whatever a cell dies of, the others go on
                    said, short = describe(error), short_of(error)
                    if short:
                        said = f"{said}; {advice(short, sweep.specification.recipe, usage.gpus)}"
                    retryable = not (isinstance(error, PermanentFailure) or short)
                    dispatcher.failed(cell.key, cell.label, said, retryable=retryable)
                else:
                    if RUNG in result:
                        dispatcher.reached(cell.key, result[RUNG], result[VALUE])
                    else:
                        dispatcher.done(cell.key, Outcome.of(result), cell.label, measured(result))
                finally:
                    dog.ended(cell.key)
                tell(cell="")

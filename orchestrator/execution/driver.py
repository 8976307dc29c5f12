"""The process that drives a sweep: it opens it, holds its lock, and has an executor run what is missing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.cli.config_file import kept_config
from orchestrator.cli.next_commands import resume_command
from orchestrator.cli.steps import step
from orchestrator.cli.supervisor import tell
from orchestrator.execution.attempt import PATIENCE_SECONDS
from orchestrator.execution.dispatcher import Dispatcher
from orchestrator.execution.executor import Executor
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.interruption import CLOSING_SECONDS, stoppable
from orchestrator.execution.on_ray import RayExecutor
from orchestrator.execution.progress import Progress
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.ledger.provenance import provenance
from orchestrator.planning.cells import Cells, lay_out
from orchestrator.planning.costs import Images, flops_by_key
from orchestrator.planning.data import check_data, check_image_sets
from orchestrator.planning.plan import Plan, Rungs
from orchestrator.planning.request import Draft, Request
from orchestrator.planning.specification import StoredSweep, read_stored
from orchestrator.planning.studies import Outcome, suggest
from orchestrator.planning.sweep import Sweep, begin, check_name, go_on, with_scoring, write_down
from orchestrator.planning.versions import check_versions
from orchestrator.tracking.client import imported_meanwhile
from orchestrator.tracking.tracker import Tracker, open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri
from trainables.data.prepared import Prepared
from trainables.mistake import Mistake, counted


@dataclass(frozen=True)
class Driver:
    """A sweep under this process's lock, ready to run."""

    sweep: Sweep
    executor: Executor
    dispatcher: Dispatcher
    tracker: Tracker | None
    existed: bool
    """Whether the sweep had been begun before."""

    @property
    def plan(self) -> Plan:
        """What is done and what is left."""
        return self.dispatcher.plan

    def run(self) -> None:
        """Say what there is to do and run it to its end."""
        counts, ledger = self.plan.counts(), self.sweep.ledger
        total = sum(counts.values())
        if self.existed:
            print(f"Going on with sweep {ledger.name}: {counts['done']} of {total} cells are done.")
        else:
            print(f"Sweep {ledger.name}: {counted(total, 'cell')}, in {ledger.storage}.")
        if not self.plan.finished:
            # Attempts wait for a storage that is away; the driver says so at once.
            patient = ledger.with_patience(PATIENCE_SECONDS)
            with stoppable(self.dispatcher.progress.say):
                self.executor.run(self.dispatcher, replace(self.sweep, ledger=patient))

    def stop(self) -> None:
        """Send the records that are under way and close their runs: the sweep was not run to its end."""
        if self.tracker is not None:
            self.tracker.interrupted()
            self.tracker.close(timeout=CLOSING_SECONDS / 2)


@contextlib.contextmanager
def opened(request: Request, draft: Draft | None) -> Iterator[Driver]:
    """Open a sweep and hold its lock; without a draft, as its ledger describes it.

    Raises Mistake, before any cell runs, for whatever is missing or does not fit.
    """
    executor: Executor = InlineExecutor(request) if request.executor == "inline" else RayExecutor(request)
    sweep, prepared = go_on(request) if draft is None else begin(draft, executor.device_kind())
    executor.check(sweep.specification)
    check_data(sweep.specification, prepared)
    uri = resolve_tracking_uri(request.tracking_uri, request.storage)
    fresh, new_storage = not sweep.ledger.has_folder(), not sweep.ledger.has_storage()
    with hold(sweep.ledger) as held, contextlib.ExitStack() as stack:
        with _collections_paused():
            sweep = replace(sweep, ledger=held.ledger)
            existed = sweep.ledger.exists()
            with _undone_if_refused(sweep.ledger, fresh=fresh and not existed, new_storage=new_storage):
                stored = check_name(sweep, must_exist=request.resume)
                if stored is not None:
                    sweep = with_scoring(sweep, stored, request)
                elif draft is not None:
                    draft.check_batch(dict(zip(prepared.classes, prepared.counts["train"], strict=True)))
                cells = lay_out(sweep.specification, sweep.fingerprint)
                keys = [cell.key for cell in cells.all()]
                with step(f"Checking the files of {sweep.ledger.name}"):
                    results, damaged = sweep.ledger.examine(keys)
                trains = len(results) < len(keys)
                if stored is not None:
                    _check_versions(request, sweep, stored, cells, results)
                _set_aside(sweep.ledger, damaged)
                sweep.ledger.close_lost(keys)
                sweep.ledger.clear_left_behind(results, keep_checkpoints=sweep.settings.keep_checkpoints)
                if trains:
                    sets = check_image_sets(sweep.settings.image_sets, prepared)
                    sweep = replace(sweep, settings=replace(sweep.settings, image_sets=sets))
                    with imported_meanwhile(uri):
                        stack.enter_context(executor.ready(sweep))
                tracker = _tracker(uri, sweep, executor, cells)
                write_down(sweep, prepared, stored, trains=trains)
                if draft is not None:
                    sweep.ledger.write_config(kept_config(request))
            dispatcher = _dispatcher(sweep, prepared, cells, results, tracker)
            tell(name=sweep.ledger.name, resume=resume_command(request, sweep.ledger.name))
        yield Driver(sweep, executor, dispatcher, tracker, existed)


@contextlib.contextmanager
def _collections_paused() -> Iterator[None]:
    """Collect no garbage: what is read of thousands of cells stays, and searching it takes seconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_versions(
    request: Request, sweep: Sweep, stored: StoredSweep, cells: Cells, done: Collection[str]
) -> None:
    """Say which versions differ, if results still can; raise Mistake if that was not accepted."""
    accepted, name = request.accept_versions, sweep.ledger.name
    said = check_versions(name, stored.made, provenance(), cells, done, accepted=accepted)
    if said:
        print(said)


@contextlib.contextmanager
def _undone_if_refused(ledger: Ledger, *, fresh: bool, new_storage: bool) -> Iterator[None]:
    """Remove what a sweep has left if it does not begin and its folder is fresh, made by this process."""
    try:
        yield
    except BaseException:
        if fresh:
            with contextlib.suppress(OSError):
                ledger.discard(storage=new_storage)
        raise


def close_records(request: Request, name: str) -> None:
    """Have MLflow say that nothing runs any more of a sweep whose driver has died."""
    ledger = Ledger(request.storage, name)
    with hold(ledger) as held:
        uri = resolve_tracking_uri(request.tracking_uri, request.storage)
        tracker = open_tracker(uri, held.ledger, read_stored(ledger).specification)
        if tracker is not None:
            tracker.close(CLOSING_SECONDS)


def _set_aside(ledger: Ledger, damaged: Sequence[Damage]) -> None:
    """Move damaged files aside, and say which they are: their cells are run again."""
    for each in damaged:
        ledger.set_aside(each)
        print(f"Damaged: {each.sentence}. It was moved aside, and its cell is run again.", flush=True)


def _tracker(uri: str, sweep: Sweep, executor: Executor, cells: Cells) -> Tracker | None:
    """Return MLflow's side, connected; None if MLflow is not installed and the executor can do without."""
    with step("Connecting to MLflow"):
        tracker = open_tracker(uri, sweep.ledger, sweep.specification, cells.all())
    if tracker is None and not executor.tracking_is_optional:
        raise Mistake(
            "MLflow is not installed here: install the project as its README.md says, or add --executor "
            "inline, which runs without it."
        )
    return tracker


def _rungs(ledger: Ledger, cells: Cells, done: Collection[str]) -> Rungs:
    """Return the rungs that cells have reached which are not done; damaged records are moved aside."""
    halved = [study for study in cells.studies if study.definition.halving]
    searches = [cell.key for study in halved for row in study.searches for cell in row]
    found, damaged = ledger.read_rungs(key for key in searches if key not in done)
    _set_aside(ledger, damaged)
    return found


def _dispatcher(
    sweep: Sweep,
    prepared: Prepared,
    cells: Cells,
    results: Mapping[str, Mapping[str, Any]],
    tracker: Tracker | None,
) -> Dispatcher:
    done = {key: Outcome.of(result) for key, result in results.items()}
    if tracker is not None:
        tracker.catch_up(results)
    images = Images.of_counts(prepared.classes, prepared.counts, prepared.channels)
    work = flops_by_key(cells.all(), sweep.specification, images)
    plan = Plan(
        cells, suggest, done, reached=_rungs(sweep.ledger, cells, done), retries=sweep.settings.retries
    )
    phases = {cell.key: cell.phase for cell in cells.all()}
    progress = Progress(work, set(done), phases, sweep.specification.recipe.epochs)
    return Dispatcher(plan, progress, tracker)

"""`python -m orchestrator.sweep`: plans a sweep, selects lambda, runs the cells and reports.

Exit codes: 0 every cell done; 1 some cells failed; 2 a mistake in what was asked, said before any work.
Modules that take seconds to import are imported where they are needed, so that --help, --dry-run and a
mistyped option do not wait for them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.cli.next_commands import rebuild_command, resume_command
from orchestrator.cli.sweep_options import Options, read_arguments
from orchestrator.machines.devices import check_place, device_kind
from orchestrator.planning.cells import Cells, lay_out
from orchestrator.planning.specification import Conduct, Specification, check_extends, complete, read_stored
from search_spaces import find_benchmark
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from orchestrator.execution.attempt import Task
    from orchestrator.execution.dispatcher import Foreman
    from orchestrator.ledger.ledger import Ledger
    from orchestrator.tracking.tracker import Tracker
    from trainables.data.prepared import Prepared
    from trainables.data.readers.request import DataRequest

INTERRUPTED = 130
DEFAULT_DATA = "./data"


def main(words: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        options = read_arguments(words)
        if options.dry_run:
            print(_plan_only(options))
            return 0
        return _run(options)
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped before any cell began.", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        from orchestrator.ledger.storage import StorageAway, no_answer

        if not isinstance(error, StorageAway):
            raise
        print(f"Error: {no_answer(options.storage, error)}", file=sys.stderr)
        return 2


def _plan_only(options: Options) -> str:
    from orchestrator.planning.dry_run import describe_plan

    if options.resume and options.name and not options.planned:
        from orchestrator.ledger.ledger import Ledger

        return describe_plan(read_stored(Ledger(options.storage, options.name))[0], options.name)
    benchmark = find_benchmark(options.request.benchmark)
    device = "cuda" if options.gpus_per_worker else "cpu"
    specification, _ = complete(replace(options.request, device=device), benchmark.classes)
    return describe_plan(specification, options.name)


@dataclass(frozen=True)
class Intent:
    """A sweep that was asked for and can be run: what it is, how, and on which data."""

    specification: Specification
    conduct: Conduct
    data: DataRequest
    prepared: Prepared
    ledger: Ledger


def _run(options: Options) -> int:
    from orchestrator.ledger.lock import hold

    intent = _understand(options)
    with hold(intent.ledger):
        specification = _reconcile(intent, must_exist=options.resume)
        return _carry_out(options, replace(intent, specification=specification))


def _understand(options: Options) -> Intent:
    """Completes what was asked by the benchmark, the data or, for --resume --name alone, the ledger."""
    as_it_was = options.resume and options.name and not options.planned
    if not as_it_was:
        complete(options.request, find_benchmark(options.request.benchmark).classes)

    from orchestrator.ledger.ledger import Ledger
    from orchestrator.ledger.storage import open_storage
    from orchestrator.planning.data import check_data, check_named, data_request, open_data

    open_storage(options.storage)
    if as_it_was:
        assert options.name is not None
        ledger = Ledger(options.storage, options.name)
        specification, stored = read_stored(ledger)
        conduct = Conduct(**stored["conduct"])
        data = data_request(
            specification,
            options.data or stored.get("data", DEFAULT_DATA),
            cache=options.cache,
            download=options.download,
        )
        prepared = open_data(data)
    else:
        request = replace(options.request, device=device_kind(options))
        draft, conduct = complete(request, find_benchmark(request.benchmark).classes)
        path = options.data or os.path.abspath(DEFAULT_DATA)
        data = data_request(draft, path, cache=options.cache, download=options.download)
        if options.data:
            check_named(data)
        prepared = open_data(data)
        specification, conduct = complete(request, prepared.classes)
        ledger = Ledger(options.storage, options.name or specification.default_name())
    check_place(options, specification)
    check_data(specification, prepared)
    return Intent(specification, conduct, data, prepared, ledger)


def _reconcile(intent: Intent, *, must_exist: bool) -> Specification:
    """The specification to run, once the ledger's own is extended by it or found equal."""
    from orchestrator.baselines.targets import ASKED

    ledger, specification = intent.ledger, intent.specification
    if ledger.holds(ASKED):
        raise Mistake(
            f"{ledger.name!r} is the name of a baseline in {ledger.storage}: choose another --name."
        )
    if not must_exist and not (ledger.exists() and ledger.begun()):
        return specification  # a sweep that was refused before its first cell has not taken the name
    before, stored = read_stored(ledger)
    if stored["fingerprint"] != intent.prepared.fingerprint:
        raise Mistake(
            f"The sweep {ledger.name!r} was begun on other data than {intent.data.path}: give the data it "
            "was begun on, or choose another --name."
        )
    check_extends(specification, before, ledger.name)
    return specification


def _carry_out(options: Options, intent: Intent) -> int:
    from orchestrator.ledger.provenance import provenance

    ledger, specification = intent.ledger, intent.specification
    cells = lay_out(specification, intent.prepared.fingerprint)
    existed = ledger.exists()
    tracker = _tracker(options, intent, cells)
    ledger.write_sweep(
        {
            "specification": specification.as_json(),
            "conduct": asdict(intent.conduct),
            "fingerprint": intent.prepared.fingerprint,
            "classes": list(intent.prepared.classes),
            "images": {split: list(counts) for split, counts in intent.prepared.counts.items()},
            "data": intent.data.path,
            **provenance(),
        }
    )
    foreman, task = _foreman(intent, cells, tracker)
    counts = foreman.plan.counts()
    if existed:
        print(
            f"Going on with sweep {ledger.name}: {counts['done']} of {sum(counts.values())} cells are done."
        )
    else:
        total = sum(counts.values())
        print(f"Sweep {ledger.name}: {total} cell{'s' * (total > 1)}, in {ledger.storage}.")
    try:
        if not foreman.plan.finished:
            _execute(options, foreman, task)
    except KeyboardInterrupt:
        print(f"Stopped. Nothing that was done is lost; go on with: {resume_command(options, ledger.name)}")
        return INTERRUPTED
    finally:
        if tracker is not None and not foreman.plan.finished:
            tracker.close(timeout=10)
    return _conclude(options, ledger, foreman, tracker)


def _tracker(options: Options, intent: Intent, cells: Cells) -> Tracker | None:
    """MLflow's side, answering; None under --executor inline where MLflow is not installed."""
    from orchestrator.tracking.tracker import open_tracker
    from orchestrator.tracking.uris import resolve_tracking_uri

    uri = resolve_tracking_uri(options.tracking_uri, options.storage)
    tracker = open_tracker(uri, intent.ledger, intent.specification, cells.all())
    if tracker is None and options.executor != "inline":
        raise Mistake(
            "MLflow is not installed here: install the project as its README.md says, or add --executor "
            "inline, which runs without it."
        )
    return tracker


def _foreman(intent: Intent, cells: Cells, tracker: Tracker | None) -> tuple[Foreman, Task]:
    from orchestrator.execution.attempt import PATIENCE_SECONDS, Task
    from orchestrator.execution.dispatcher import Foreman
    from orchestrator.execution.progress import Progress
    from orchestrator.planning.costs import Images, cell_flops
    from orchestrator.planning.plan import Outcome, Plan
    from orchestrator.planning.studies import suggest

    specification, prepared = intent.specification, intent.prepared
    results = intent.ledger.results(cell.key for cell in cells.all())
    done = {key: Outcome(r["aux_weights"], r["values"].get("value")) for key, r in results.items()}
    if tracker is not None:
        tracker.catch_up(results)
    plan = Plan(cells, suggest, done, given=specification.aux_weights, retries=intent.conduct.retries)
    images = Images.of_counts(prepared.classes, prepared.counts, prepared.channels)
    work = {cell.key: cell_flops(cell, specification, images) for cell in cells.all()}
    ledger = replace(intent.ledger, patience=PATIENCE_SECONDS)
    task = Task(specification, intent.conduct, ledger, intent.data, prepared.fingerprint)
    return Foreman(plan, Progress(work, set(done)), tracker), task


def _execute(options: Options, foreman: Foreman, task: Task) -> None:
    if options.executor == "inline":
        from orchestrator.execution.inline import run_inline

        with foreman.progress.running():
            run_inline(foreman, task)
        return
    from orchestrator.execution.resources import Resources
    from orchestrator.execution.tune import ray_started, run_on_ray

    cuda = task.specification.device == "cuda"
    gpus = options.gpus_per_worker if options.gpus_per_worker is not None else float(cuda)
    specification = task.specification
    cpus = max(options.cpus_per_worker, specification.threads if specification.threads > 1 else 0)
    resources = Resources(cpus, gpus, specification.workers, options.max_concurrent)
    with ray_started(options.address), foreman.progress.running():
        run_on_ray(foreman, task, resources, gpus_named=options.gpus_per_worker is not None)


def _conclude(options: Options, ledger: Ledger, foreman: Foreman, tracker: Tracker | None) -> int:
    """Prints the report and how to look further; the exit code."""
    from orchestrator.report import make_report

    plan = foreman.plan
    try:
        report = make_report(ledger, resume_command(options, ledger.name))
        files = report.write()
    except OSError as away:
        print(
            f"The storage does not answer ({away.strerror or away}), so there is no report; what is done is "
            f"not lost. Once it does: {rebuild_command(options, ledger.name)}"
        )
        return 1
    print(f"\n{report.text}\n")
    _point_to_records(options, ledger, tracker, report.summary_metrics(), files, plan.counts())
    failures = plan.failures()
    if not failures:
        return 0 if report.sound else 1
    print(f"{len(failures)} cells failed on every attempt:")
    for cell, error in failures.items():
        print(f"  {cell.label}: {error}")
    if plan.blocked():
        print(
            f"{len(plan.blocked())} cells wait for them, since a search that is not complete chooses nothing."
        )
    print(f"Try them again with: {resume_command(options, ledger.name)}")
    return 1


def _point_to_records(
    options: Options,
    ledger: Ledger,
    tracker: Tracker | None,
    metrics: dict[str, float],
    files: dict[str, bytes],
    counts: dict[str, int],
) -> None:
    print(f"Tables and figures: {ledger.uri('report')}")
    rebuild = rebuild_command(options, ledger.name)
    if tracker is None:
        print(f"MLflow is not installed here, so nothing was recorded in it; where it is: {rebuild}")
        return
    tracker.summarise(metrics, files, finished=counts["done"] == sum(counts.values()))
    if not tracker.close(timeout=60):
        print(f"The tracking server does not answer; write its records once it does, with: {rebuild}")
        return
    if tracker.refusals:
        print(
            f"MLflow refused {len(tracker.refusals)} records ({tracker.refusals[0]}); "
            f"try again with: {rebuild}"
        )
    print(f"Compare the cells in MLflow:  {tracker.ui_command()}")
    print(f"then open:  {tracker.comparison_address()}")


if __name__ == "__main__":
    sys.exit(main())

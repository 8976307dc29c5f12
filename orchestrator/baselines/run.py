"""Score a benchmark with a detector that trains no network, report the scores and record them in MLflow."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.baselines.scores import score_targets
from orchestrator.baselines.table import baseline_table
from orchestrator.baselines.targets import HOLDOUT, OOD, Baseline, Target, default_name, write_down
from orchestrator.cli.baseline_options import PIXEL_GAUSSIAN, Options
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.lock import hold
from orchestrator.ledger.provenance import provenance
from orchestrator.ledger.storage import absolute_path, open_storage
from orchestrator.planning.data import check_class_names, open_data
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification, data_request
from orchestrator.reporting.main_table import WIDTH
from orchestrator.reporting.tables import to_csv, to_latex, to_markdown, to_text
from orchestrator.tracking.records import Point, Record
from orchestrator.tracking.tracker import Tracker, open_tracker
from orchestrator.tracking.uris import resolve_tracking_uri
from search_spaces import find_benchmark
from trainables.data.image_sets import ImageSet, load_images
from trainables.data.prepared import Prepared
from trainables.mistake import Mistake
from trainables.run import NO_HOLDOUT

LARGEST_SIDE = 96
"""Largest side in pixels for which pixel Gaussians are fitted: their matrices then take 0.6 GiB each."""

Results = dict[str, dict[str, Any]]
"""result.json by key."""


def run(options: Options) -> int:
    """Score the requested targets that are not scored yet, report and record them; return the exit code."""
    known = _specification(options, find_benchmark(options.benchmark).classes)
    _check_side(options.method, known.recipe.image_size)

    open_storage(options.storage)  # an invalid URI is a mistake before any work
    path = absolute_path(options.data)
    prepared = open_data(data_request(known, path, cache=options.cache, download=options.download))
    check_class_names(prepared)
    specification = _specification(options, prepared.classes)
    ledger = Ledger(options.storage, options.name or _default_name(options, known))
    sets = _load_sets(options, prepared)
    with hold(ledger):
        tracker = _tracker(options, ledger, specification)
        baseline = _baseline(options, specification, prepared, sets).joined_to(ledger)
        results = _score_missing(baseline, prepared, sets, ledger, path)
        _report(baseline, results, ledger)
        _record(tracker, baseline, results, ledger)
    return 0


def _specification(options: Options, classes: tuple[str, ...] | None) -> Specification:
    """Return the checked classes and image size, without the larger stored size from which networks crop."""
    assignments = (*options.assignments, "stored_size=0")
    request = Request(options.benchmark, ("classification",), options.holdouts, assignments=assignments)
    return draft(request).complete("cpu", classes)


def _check_side(method: str, side: int) -> None:
    if method == PIXEL_GAUSSIAN and side > LARGEST_SIDE:
        raise Mistake(
            f"Pixel Gaussians at {side}x{side} would take {8 * side**4 / 2**30:.0f} GiB per matrix: choose a "
            f"side of at most {LARGEST_SIDE}, such as --set image_size=32."
        )


def _default_name(options: Options, known: Specification) -> str:
    how = [options.resize, options.crops_per_image, options.seed] if options.sets else []
    request = [known.recipe.image_size, sorted(options.holdouts), sorted(options.sets), how]
    return default_name(options.benchmark, options.method, request)


def _load_sets(options: Options, prepared: Prepared) -> dict[str, ImageSet]:
    if not options.sets:
        return {}
    found = {}
    for name, path in options.sets.items():
        _show_progress(f"Image set {name}")
        found[name] = load_images(
            name,
            path,
            side=prepared.side,
            channels=prepared.channels,
            resize=options.resize,
            crops_per_image=options.crops_per_image,
            seed=options.seed,
        )
    _show_progress("")
    return found


def _baseline(
    options: Options, specification: Specification, prepared: Prepared, sets: Mapping[str, ImageSet]
) -> Baseline:
    """Return the baseline with the targets that this command requests."""
    baseline = Baseline(
        benchmark=options.benchmark,
        method=options.method,
        setting=OOD if sets else HOLDOUT,
        image_size=prepared.side,
        fingerprint=prepared.fingerprint,
        classes=prepared.classes,
    )
    tests = dict(zip(prepared.classes, prepared.counts["test"], strict=True))
    if not sets:
        targets = [Target(name, baseline.key(name), tests[name]) for name in specification.holdouts]
        return replace(baseline, targets=tuple(targets))
    targets = []
    for name, images in sets.items():
        cropped = images.resize == "crop"
        crops, seed = (options.crops_per_image, options.seed) if cropped else (None, None)
        key = baseline.key(name, images.digest)
        targets.append(Target(name, key, len(images.pixels), images.resize, crops, seed))
    return replace(baseline, targets=tuple(targets))


def _score_missing(
    baseline: Baseline, prepared: Prepared, sets: Mapping[str, ImageSet], ledger: Ledger, path: str
) -> Results:
    """Score the targets that have no result yet; return the results of all targets by key."""
    write_down(baseline, ledger, {"data": path, **provenance()})
    keys = [target.key for target in baseline.targets]
    done = ledger.read_results(keys)
    missing = [target for target in baseline.targets if target.key not in done]
    if not missing:
        print(f"All of {ledger.name} is scored already.")
        return done
    lost = [target.name for target in missing if baseline.setting == OOD and target.name not in sets]
    if lost:
        raise Mistake(
            f"The scores of {lost[0]} in {ledger.uri} are missing or damaged: name its images "
            f"again, with --ood {lost[0]}=PATH, or choose another --name."
        )
    began = time.monotonic()
    score_targets(baseline, missing, prepared, sets, ledger, _show_progress)
    _show_progress("")
    names = ", ".join(target.name for target in missing)
    print(f"Scored {names} in {time.monotonic() - began:.1f} s.")
    return ledger.read_results(keys)


def _report(baseline: Baseline, results: Results, ledger: Ledger) -> None:
    """Print the table and write it into the report folder."""
    table = baseline_table(baseline, results, f"tab:{ledger.name}")
    print(f"\n{to_text(table)}\n\n{textwrap.fill(table.caption, WIDTH, break_on_hyphens=False)}\n")
    files = {"table.md": to_markdown(table), "table.tex": to_latex(table), "table.csv": to_csv(table)}
    for name, text in files.items():
        ledger.write_report(name, f"{text.rstrip()}\n".encode())
    print(f"Scores and tables: {ledger.uri}")


def _tracker(options: Options, ledger: Ledger, specification: Specification) -> Tracker | None:
    """Return a connected tracker, or None if MLflow is not installed."""
    return open_tracker(resolve_tracking_uri(options.tracking_uri, options.storage), ledger, specification)


def _record(tracker: Tracker | None, baseline: Baseline, results: Results, ledger: Ledger) -> None:
    """Send every target's run; runs that MLflow holds already get no second point."""
    if tracker is None:
        print(
            "MLflow is not installed here, so nothing was recorded in it; once it is, run this command again."
        )
        return
    tracker.send({target.key: _run_of(target, baseline, results, ledger) for target in baseline.targets})
    if not tracker.close(timeout=60):
        print("The tracking server does not answer; give this command again once it does.", file=sys.stderr)
        return
    print(f"Compare the runs in MLflow:  {tracker.ui_command()}\nthen open:  {tracker.list_address()}")


def _run_of(target: Target, baseline: Baseline, results: Results, ledger: Ledger) -> Record:
    """Return a target's run."""
    held_out = baseline.setting == HOLDOUT
    result = results[target.key]
    finished_at = round(1000 * result["attempt"]["finished_at"])
    params = {
        "benchmark": baseline.benchmark,
        "method": baseline.method,
        "holdout": target.name if held_out else NO_HOLDOUT,
        "ood": None if held_out else target.name,
        "resize": target.resize,
        "crops_per_image": target.crops_per_image,
        "seed": target.seed,
        "image_size": baseline.image_size,
    }
    return Record(
        name=f"{baseline.method}/{target.name}",
        tags={
            "kind": "baseline",
            "sweep": ledger.name,
            "ledger": ledger.identity(),
            "cell": target.key,
        },
        params={name: str(value) for name, value in params.items() if value is not None},
        points=[Point(name, value, 0, finished_at) for name, value in result["values"].items()],
        finished=True,
    )


def _show_progress(text: str) -> None:
    """Show on a terminal what is being done, in one line that the next call overwrites."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="\r" if not text else "", file=sys.stderr, flush=True)

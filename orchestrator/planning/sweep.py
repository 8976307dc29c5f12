"""A sweep that can run: what it is, how it is carried out, its data and its ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.provenance import provenance
from orchestrator.ledger.storage import absolute_path, open_storage
from orchestrator.planning.cells import define
from orchestrator.planning.data import check_named, open_data
from orchestrator.planning.plugins import Plugin, listed, load, load_with_stored
from orchestrator.planning.request import (
    DEFAULT_DATA,
    Draft,
    Request,
    check_detectors,
    image_sets,
    read_plugins,
)
from orchestrator.planning.specification import (
    RANDOM_STARTS,
    SETTINGS,
    DetectorColumn,
    RunSettings,
    Specification,
    StoredSweep,
    check_extends,
    data_request,
    read_stored,
)
from search_spaces import find_benchmark
from trainables.data.prepared import Prepared
from trainables.data.readers.request import DataRequest
from trainables.detectors import DETECTORS
from trainables.mistake import Mistake, counted


@dataclass(frozen=True)
class Sweep:
    """What every process that works on a sweep needs to know; it can be sent to other machines."""

    specification: Specification
    settings: RunSettings
    ledger: Ledger
    data: DataRequest
    fingerprint: str
    """Identifies the content of the data."""
    plugins: tuple[Plugin, ...] = ()
    """What defines detectors, tasks and benchmarks that are not this project's."""


def begin(draft: Draft, device: str) -> tuple[Sweep, Prepared]:
    """Return the sweep that a request means on a kind of device, and its data, prepared if it was not.

    Raises Mistake if storage or data cannot be had, or do not fit what was asked.
    """
    request = draft.request
    open_storage(request.storage)
    known = draft.complete(device, find_benchmark(request.benchmark).classes)
    path = request.data or absolute_path(DEFAULT_DATA)
    data = data_request(known, path, cache=request.cache, download=request.download)
    if request.data:
        check_named(data)
    prepared = open_data(data)
    specification, ledger = as_begun(draft.complete(device, prepared.classes), request)
    sweep = Sweep(specification, draft.settings, ledger, data, prepared.fingerprint, draft.plugins)
    return sweep, prepared


def as_begun(specification: Specification, request: Request) -> tuple[Specification, Ledger]:
    """Return what is asked for, with the ledger that it goes to.

    Studies of a sweep that exists go on as they were begun, by version 0.1 with random lambdas; its default
    name was another one.
    """
    before = replace(specification, starts=RANDOM_STARTS)
    ledger = Ledger(request.storage, request.name or specification.default_name())
    if request.name is None and not ledger.exists():
        older = Ledger(request.storage, before.default_name())
        ledger = older if older.exists() else ledger
    if ledger.exists() and ledger.begun() and ledger.sweep_damage() is None:
        stored = read_stored(ledger).specification
        if stored.searches_ranges:
            specification = replace(specification, starts=stored.starts)
    return specification, ledger


def go_on(request: Request) -> tuple[Sweep, Prepared]:
    """Return the sweep of --resume --name NAME as its ledger describes it, and its data."""
    assert request.name is not None
    open_storage(request.storage)
    ledger = Ledger(request.storage, request.name)
    plugins = load_with_stored(read_plugins(request), ledger)
    stored = read_stored(ledger)
    brought = load(plugins)
    digests = {name: brought.get(name, "") for name in stored.specification.plugins}
    specification = replace(stored.specification, plugins=digests)  # those of an edited file are others
    for method in specification.methods:
        find_benchmark(specification.benchmark).check_method(method)
    check_detectors(request.detectors)
    path = request.data or stored.data or DEFAULT_DATA
    data = data_request(specification, path, cache=request.cache, download=request.download)
    prepared = open_data(data)
    sweep = Sweep(specification, stored.settings, ledger, data, prepared.fingerprint, plugins)
    return with_scoring(sweep, stored, request), prepared


def with_scoring(sweep: Sweep, stored: StoredSweep, request: Request) -> Sweep:
    """Return a sweep with the detectors and image sets that it had, and those that are asked for.

    A set that it had must have the same images as before.
    """
    asked_detectors = request.detectors if "detectors" in request.given else ()
    names = tuple(dict.fromkeys((*stored.settings.detectors, *asked_detectors)))
    # Plug-ins that were not given again may have the detectors, or names that those given now take, too.
    if sweep.plugins or not set(names) <= set(DETECTORS.names):
        sweep = replace(sweep, plugins=load_with_stored(sweep.plugins, sweep.ledger))
        check_detectors(names)
    before = {each.name: each for each in stored.settings.image_sets}
    asked = {each.name: each for each in image_sets(request)} if "ood" in request.given else before
    digests = {name: each.digest for name, each in before.items()}
    sets = tuple(replace(each, digest=digests.get(name)) for name, each in asked.items())
    return replace(sweep, settings=replace(sweep.settings, detectors=names, image_sets=sets))


def check_name(sweep: Sweep, *, must_exist: bool) -> StoredSweep | None:
    """Return the sweep of this name that this one goes on with or extends, or None if the name is free.

    Raise Mistake if the name belongs to another sweep.
    """
    ledger = sweep.ledger
    if ledger.holds_baseline():
        raise Mistake(
            f"{ledger.name!r} in {ledger.storage} is a baseline of version 0.1, which does not go on: "
            "choose another --name; computing it again takes seconds."
        )
    damaged = ledger.sweep_damage()
    if damaged is not None:
        ledger.set_aside(damaged)
        print(f"Damaged: {damaged.sentence}. It was moved aside and is written again from this command line.")
        return None  # keys of cells follow from the command line, so those that are done still count
    if not must_exist and not (ledger.exists() and ledger.begun()):
        return None  # a sweep that was refused before its first cell has not taken the name
    stored = read_stored(ledger)
    _check_data_is_the_same(sweep, stored)
    check_extends(sweep.specification, stored.specification, ledger.name)
    check_studies_stay(sweep.specification, stored.specification, ledger.name)
    return stored


def check_studies_stay(new: Specification, old: Specification, name: str) -> None:
    """Raise Mistake if further methods change how many trials the methods that are there have."""
    for method in old.methods:
        if old.searches(method):
            before, after = (define(each, method, each.holdouts).trials for each in (old, new))
            if before != after:
                raise Mistake(
                    f"The sweep {name!r} has studies of {counted(before, 'trial')}, and would have {after} "
                    "with the further methods, whose lists are shorter: choose another --name."
                )


def _check_data_is_the_same(sweep: Sweep, stored: StoredSweep) -> None:
    if stored.specification.grouped_by != sweep.specification.grouped_by:
        return  # which makes other data, and is named as what differs
    if stored.fingerprint != sweep.fingerprint:
        raise Mistake(
            f"The sweep {sweep.ledger.name!r} was begun on other data than {sweep.data.path}: give the data "
            "it was begun on, or choose another --name."
        )


def write_down(sweep: Sweep, prepared: Prepared, stored: StoredSweep | None, *, trains: bool) -> None:
    """Write sweep.json: the specification, the data, versions and the project's commit.

    Those of a sweep that was begun before (`stored`) stay; if it trains on, those that are here are added.
    """
    begun, *went_on = stored.made if stored else (provenance(),)
    if trains and provenance() not in (begun, *went_on):
        went_on.append(provenance())
    columns = [DetectorColumn.of(name) for name in sweep.settings.detectors]
    before = read_stored(sweep.ledger).plugins if sweep.ledger.exists() else {}
    for plugin in sweep.plugins:
        sweep.ledger.write_plugin(plugin.digest, plugin.source)
    sweep.ledger.write_sweep(
        {
            "specification": sweep.specification.as_json(),
            SETTINGS: sweep.settings.as_json(),
            "detectors": {c.name: {"label": c.label, "windowed": c.windowed} for c in columns},
            "fingerprint": sweep.fingerprint,
            "classes": list(prepared.classes),
            "images": {split: list(counts) for split, counts in prepared.counts.items()},
            "data": sweep.data.path,
            "plugins": listed(sweep.plugins, before),
            **asdict(begun),
            "went_on_with": [asdict(made) for made in went_on],
        }
    )

"""What a sweep is: everything that decides its cells and their results, apart from where and how it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.provenance import Made
from orchestrator.ledger.typed_json import Unexpected, typed, typed_fields
from orchestrator.planning.hyperparameters import Weights
from search_spaces import find_benchmark
from trainables.data.named_images import RESIZES, SET_NAME, NamedImages
from trainables.data.readers.request import DataRequest
from trainables.detectors import DEFAULT_DETECTORS, DEFAULT_LABELS, DETECTORS
from trainables.detectors.contract import FEATURES
from trainables.mistake import Mistake, unknown
from trainables.recipe import Recipe
from trainables.run import NO_HOLDOUT, parse_method
from trainables.settings import check, setting, valid_of, values_of
from trainables.spaces import LOG, Choices, Grid, Space, Weighing, parse_searched, parse_space

MOST = 10_000
"""Seeds, lambdas, workers and cells at once: more is a slip of the finger."""

GROWING = ("methods", "holdouts", "seeds")
"""Fields in which a sweep that exists may grow."""

SETTINGS = "conduct"
"""The key of the run settings in sweep.json, which keeps the name that version 0.1 gave it."""

RANDOM_STARTS, SPACED_STARTS = "random", "spaced"
"""How a study of ranges begins: as in version 0.1, or evenly spaced."""
BEST, SMOOTHED, ONE_SE = "best", "smoothed", "one-se"
"""What a study chooses: the highest value, the highest mean with its neighbours, or the smallest lambda whose
value is within one standard error of the highest."""
CHOICES = (BEST, SMOOTHED, ONE_SE)
OWN, PAPER = "default", "paper"
"""Protocols: this project's, and the paper's where it is known."""

Rule = tuple[str, object, str, bool]
"""A place in sweep.json, its value, what belongs there, and whether this is it."""


@dataclass(frozen=True)
class RunSettings:
    """How a sweep is carried out; none of it changes a result, so it may differ when the sweep goes on."""

    retries: int = setting(3, "further attempts at a cell that fails", at_least=0, at_most=1_000_000)
    checkpoint_seconds: float = setting(
        60.0, "seconds between checkpoints, 0 for every epoch", at_least=0, at_most=10**9
    )
    keep_checkpoints: bool = setting(False, "keep the checkpoints of cells that are done")
    keep_weights: bool = setting(True, "keep the last weights of final cells")
    stall_seconds: float = setting(
        -1.0,
        "seconds without progress that end a cell, 0 for never, -1 for 600 or 20 times its slowest step",
        at_least=-1,
        later=True,
    )
    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    """What scores the test images."""
    image_sets: tuple[NamedImages, ...] = ()
    """What is scored beside the test images."""

    def __post_init__(self) -> None:
        """Raise Mistake for a setting that is not valid."""
        check(self)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**values_of(self), "detectors": list(self.detectors)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> RunSettings:
        """Return the settings that `as_json` described; version 0.1 had fewer, and their defaults hold.

        Raise Unexpected for what is none, and Mistake for a setting that is not valid.
        """
        found: RunSettings = typed(RunSettings, values, SETTINGS)
        return found


@dataclass(frozen=True)
class Specification:
    """A benchmark, what is compared on it and how lambda is chosen."""

    benchmark: str
    methods: tuple[str, ...]
    holdouts: tuple[str, ...]
    seeds: int
    recipe: Recipe
    spaces: dict[str, Weighing]
    """Where each auxiliary task's weight is searched."""
    aux_weights: Weights | None = None
    """Weights that were given, by task: then nothing is searched."""
    select: str = "holdout"
    lambda_trials: int = setting(8, "lambdas that a study tries in a range", at_least=1, at_most=MOST)
    sweep_seed: int = setting(0, "what every random stream starts from", at_least=0, at_most=2**128 - 1)
    search_round: int = setting(1, "lambdas that a study asks for at a time", at_least=1, at_most=MOST)
    skip_bad_images: bool = setting(False, "go on without images that cannot be read")
    grouped_by: str = ""
    """What tells an image's group, of which all images stay on one side of a split; "" for no groups."""
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    """By benchmark or auxiliary task that a plug-in defines, the digest of its source."""
    search: dict[str, Space] = dataclasses.field(default_factory=dict)
    """Fields of the recipe that are searched, and where."""
    starts: str = RANDOM_STARTS
    """How studies of ranges begin; a sweep of version 0.1 says nothing of it."""
    search_seeds: int = 1
    """A search cell for each of so many seeds, 0 to N-1; a lambda's value is their mean."""
    choose: str = BEST
    halving: int = 0
    """Of so many trials one goes on from a rung; 0 trains all of them to the end."""
    protocol: str = OWN
    one_lambda: tuple[str, ...] = ()
    """Auxiliary tasks that have one lambda for the benchmark, even if others have one per held-out class."""

    def __post_init__(self) -> None:
        """Raise Mistake for a setting that is not valid."""
        check(self)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON; a space is its text, from which it is read back exactly.

        What version 0.1 did not have is left out at its default, since names of sweeps are hashes of this.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["recipe"] = values_of(self.recipe)
        for name in ("spaces", "search"):
            values[name] = {searched: str(space) for searched, space in values[name].items()}
        for name, default in LATER.items():
            if values[name] == default:
                del values[name]
        return dict(json.loads(json.dumps(values)))

    @staticmethod
    def from_json(values: dict[str, Any]) -> Specification:
        """Return the specification that `as_json` described.

        Raise Unexpected for what is none, and Mistake for a setting that is not valid.
        """
        texts = {"spaces": dict[str, str], "search": dict[str, str]}
        fields = typed_fields(Specification, values, "specification", texts)
        spaces = {task: parse_space(text) for task, text in fields["spaces"].items()}
        search = {name: read_searched(name, text, LOG) for name, text in fields.get("search", {}).items()}
        return Specification(**{**fields, "spaces": spaces, "search": search})

    def default_name(self) -> str:
        """The benchmark and a short hash of the specification."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return f"{self.benchmark}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def trained(self) -> tuple[str, ...]:
        """The methods that train a network."""
        return tuple(method for method in self.methods if parse_method(method).trains)

    def seeds_of(self, method: str) -> int:
        """Return how many seeds a method has: one if it trains nothing, since it draws nothing either."""
        return self.seeds if parse_method(method).trains else 1

    def tasks(self, method: str) -> tuple[str, ...]:
        """Return the auxiliary tasks of a method, each of which has a weight."""
        return parse_method(method).auxiliary

    def searches(self, method: str) -> bool:
        """Return whether anything of a method is searched: its weights, or fields of the recipe."""
        weighed = bool(self.tasks(method)) and self.aux_weights is None
        return weighed or (bool(self.search) and parse_method(method).trains)

    def given_weights(self, method: str) -> Weights | None:
        """Return the weights that a method has without a search, or None if they are searched.

        A method without auxiliary tasks has none to search: {}.
        """
        if self.aux_weights is None and self.tasks(method):
            return None
        given = self.aux_weights or {}
        return {task: given[task] for task in self.tasks(method)}

    @property
    def searches_ranges(self) -> bool:
        """Whether anything is searched in a range, so that it matters how a study begins."""
        tasks = {task for method in self.methods for task in self.tasks(method)}
        weighed = [self.spaces[task] for task in tasks] if self.aux_weights is None else []
        fields = self.search.values() if self.trained else ()
        return any(not isinstance(space, Grid | Choices) for space in (*weighed, *fields))

    def lambda_of(self, method: str) -> str:
        """Return what a method's lambda is chosen for, "holdout" or "benchmark"."""
        return "benchmark" if set(self.tasks(method)) & set(self.one_lambda) else self.select


LATER = {
    name: field.default_factory() if callable(field.default_factory) else field.default
    for name, field in Specification.__dataclass_fields__.items()
    if name in ("grouped_by", "plugins", "search", "starts", "search_seeds")
    or name in ("choose", "halving", "protocol", "one_lambda")
}
"""Fields that version 0.1 did not have, and their defaults."""


def searched_fields() -> list[str]:
    """Return the fields of the recipe that can be searched."""
    return sorted(field for field, (_, valid) in valid_of(Recipe).items() if valid.scale)


def read_searched(name: str, text: str, scale: str | None = None) -> Space:
    """Return the space of a field of the recipe; raise Mistake if there is no such field or space.

    The scale is the one of a range that names none, the field's own by default.
    """
    fields, searched = valid_of(Recipe), searched_fields()
    if name not in fields:
        raise unknown("field to search", name, searched)
    kind, valid = fields[name]
    if valid.scale is None:
        raise Mistake(
            f"{name} is not searched, since it changes the data, the network, the length of training or what "
            f"is scored, and validation accuracies could not be compared: search {', '.join(searched)}, or "
            f"set it with --set {name}=VALUE."
        )
    return parse_searched(name, text, kind, valid, scale)


@dataclass(frozen=True)
class DetectorColumn:
    """What tables need to know of a detector, so that a report need not import it."""

    name: str
    label: str
    windowed: bool
    """Whether it takes part in every evaluation; otherwise in the last one only."""

    @staticmethod
    def of(name: str) -> DetectorColumn:
        """Return the column of a detector that can be imported."""
        detector = DETECTORS.find(name)
        return DetectorColumn(name, detector.label, detector.needs != FEATURES)


@dataclass(frozen=True)
class _Column:
    """A detector's column as sweep.json has it, by name."""

    label: str
    windowed: bool


@dataclass(frozen=True)
class _File:
    """What of sweep.json is read; the rest is for people."""

    specification: dict[str, Any]
    fingerprint: str
    classes: tuple[str, ...]
    conduct: dict[str, Any] = dataclasses.field(default_factory=dict)
    detectors: dict[str, _Column] | None = None
    data: str | None = None
    images: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    git_commit: str | None = None
    machine: str | None = None
    went_on_with: tuple[Made, ...] = ()

    def columns(self, names: tuple[str, ...]) -> tuple[DetectorColumn, ...]:
        """Return the columns of detectors; version 0.1 had the default detectors only."""
        known = self.detectors
        if known is None:
            known = {name: _Column(label, windowed=True) for name, label in DEFAULT_LABELS.items()}
        for name in names:
            if name not in known:
                raise Unexpected(f"detectors.{name}", None, "an object")
        return tuple(DetectorColumn(name, known[name].label, known[name].windowed) for name in names)


@dataclass(frozen=True)
class StoredSweep:
    """What sweep.json says."""

    specification: Specification
    settings: RunSettings
    fingerprint: str
    classes: tuple[str, ...]
    data: str | None
    """Where the data was; a ledger of another make may not say."""
    detectors: tuple[DetectorColumn, ...]
    """What scores the test images."""
    plugins: dict[str, str]
    """Digests of plug-ins' sources by file name."""
    made: tuple[Made, ...]
    """What the sweep was begun with, then what it went on with."""
    images: Mapping[str, tuple[int, ...]]
    """How many images each class has by split; empty if the ledger does not say."""

    @property
    def test_counts(self) -> tuple[int, ...]:
        """How many test images each class has; empty if the ledger does not say."""
        return self.images.get("test", ())


def read_stored(ledger: Ledger) -> StoredSweep:
    """Read sweep.json; raise Mistake, which names the field, if it is not what this version writes."""
    values = ledger.read_sweep()
    known = {field.name for field in dataclasses.fields(_File)}
    try:
        file = _File(**typed_fields(_File, {name: values[name] for name in values if name in known}, ""))
        settings = RunSettings.from_json(file.conduct)
        stored = StoredSweep(
            specification=Specification.from_json(file.specification),
            settings=settings,
            fingerprint=file.fingerprint,
            classes=file.classes,
            data=file.data,
            detectors=file.columns(settings.detectors),
            plugins=file.plugins,
            made=(Made(file.versions, file.git_commit, file.machine), *file.went_on_with),
            images=file.images,
        )
        _check_stored(stored)
    except (Unexpected, Mistake) as error:
        raise ledger.foreign_sweep(str(error).rstrip(".")) from None
    return stored


def _check_stored(stored: StoredSweep) -> None:
    """Raise Unexpected for values of the right types that no command line could have led to."""
    for place, value, belongs, holds in (*_about_cells(stored), *_about_scoring(stored)):
        if not holds:
            raise Unexpected(place, value, belongs)


def _about_cells(stored: StoredSweep) -> Iterator[Rule]:
    """Yield what must hold of the specification, beyond its settings."""
    wanted = stored.specification
    names = {"classes": stored.classes, "specification.methods": wanted.methods}
    for place, found in {**names, "specification.holdouts": wanted.holdouts}.items():
        yield place, found, "a list of different words, not empty,", bool(found) and _distinct(found)
    for name in ("seeds", "workers", "threads"):
        value = getattr(wanted, name)
        yield f"specification.{name}", value, f"a whole number from 1 to {MOST}", 1 <= value <= MOST
    classes = (*stored.classes, NO_HOLDOUT)
    for name, least in (("search_seeds", 1), ("halving", 0)):
        value = getattr(wanted, name)
        yield f"specification.{name}", value, f"a whole number from {least} to {MOST}", least <= value <= MOST
    choices = [
        ("select", wanted.select, ("holdout", "benchmark")),
        ("device", wanted.device, ("cpu", "cuda")),
        ("starts", wanted.starts, (RANDOM_STARTS, SPACED_STARTS)),
        ("choose", wanted.choose, CHOICES),
        ("protocol", wanted.protocol, (OWN, PAPER)),
    ]
    for name, value, valid in [*choices, *(("holdouts", each, classes) for each in wanted.holdouts)]:
        yield f"specification.{name}", value, f"one of {', '.join(valid)}", value in valid
    given = wanted.aux_weights
    for task in (task for method in wanted.methods for task in wanted.tasks(method)):
        weighed = given is None or given.get(task, -1) >= 0
        yield "specification.aux_weights", given, f"a weight of at least 0 for {task}", weighed
        yield "specification.spaces", [*wanted.spaces], f"a space for {task}", task in wanted.spaces


def _about_scoring(stored: StoredSweep) -> Iterator[Rule]:
    """Yield what must hold of detectors, image sets and plug-ins."""
    detectors, sets = stored.settings.detectors, stored.settings.image_sets
    for place, names in (("detectors", detectors), ("image_sets", [each.name for each in sets])):
        yield f"{SETTINGS}.{place}", names, "a list of different words", _distinct(names)
    for each in sets:
        for field, value, belongs, holds in (
            ("name", each.name, "a word of small letters", bool(re.fullmatch(SET_NAME, each.name))),
            ("resize", each.resize, f"null or one of {', '.join(RESIZES)}", each.resize in (None, *RESIZES)),
            ("crops_per_image", each.crops_per_image, "a number of at least 1", each.crops_per_image >= 1),
        ):
            yield f"{SETTINGS}.image_sets.{field}", value, belongs, holds
    for file, digest in stored.plugins.items():
        holds = bool(re.fullmatch("[0-9a-f]{64}", digest))
        yield f"plugins.{file}", digest, "the digest of a source", holds


def _distinct(names: Sequence[str]) -> bool:
    """Return whether names are all different and none is empty."""
    return len(set(names)) == len(names) and all(names)


def check_extends(new: Specification, old: Specification, name: str) -> None:
    """Raise Mistake, naming the fields, unless `new` is `old` or grows it by holdouts, methods or seeds."""
    before, after = _flat(old), _flat(new)
    changed = [field for field in {**before, **after} if after.get(field) != before.get(field)]
    refused = [field for field in changed if not _grows(field, new, old)]
    if refused:
        listed = ", ".join(_change(field, before.get(field), after.get(field)) for field in refused)
        raise Mistake(
            f"The sweep {name!r} exists with another specification: {listed}. Choose another --name, or "
            f"go on with it as it is by --resume --name {name}."
        )


def check_sources(digests: dict[str, str], old: Specification, name: str) -> None:
    """Raise Mistake if a plug-in defines a task or benchmark of a stored sweep otherwise than it did.

    `digests` has the source of each task and benchmark that plug-ins define.
    """
    asked = {used: digests.get(used, "") for used in old.plugins}
    check_extends(dataclasses.replace(old, plugins=asked), old, name)


def _change(field: str, before: object, after: object) -> str:
    if field == "plugins":
        return "the source of a plug-in that it uses"
    return f"{field} {before} (asked: {after})"


def _grows(field: str, new: Specification, old: Specification) -> bool:
    if field == "seeds":
        return new.seeds > old.seeds
    if field == "holdouts" and (new.select == "benchmark" or new.one_lambda):
        return False
    if field == "starts":
        return not old.searches_ranges
    if field == "one_lambda":
        return set(old.one_lambda) <= set(new.one_lambda)
    if field in ("spaces", "aux_weights", "plugins"):  # more methods bring more tasks
        before, after = getattr(old, field), getattr(new, field)
        return before is not None and after is not None and before.items() <= after.items()
    return field in GROWING and set(getattr(old, field)) < set(getattr(new, field))


def _flat(specification: Specification) -> dict[str, Any]:
    values = specification.as_json()
    recipe = values.pop("recipe")
    for name in ("methods", "holdouts"):  # their order changes no result
        values[name] = sorted(values[name])
    return {**values, **recipe}


def data_request(specification: Specification, path: str, *, cache: str, download: bool) -> DataRequest:
    """Return what any process of the sweep needs to open, or prepare, the data on its own node."""
    benchmark = find_benchmark(specification.benchmark)
    return DataRequest(
        reader=benchmark.reader if isinstance(benchmark.reader, str) else benchmark.name,
        path=path,
        side=specification.recipe.prepared_size,
        channels=benchmark.channels,
        cache=cache,
        download=download,
        skip_bad_images=specification.skip_bad_images,
        groups=specification.grouped_by,
        classes=benchmark.classes,
        train_counts=benchmark.train_counts,
        test_counts=benchmark.test_counts,
        name=benchmark.name,
    )
